#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tokenizer/jinja/value.h"

// A parsed template.
namespace qgrpo::tokenizer::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

enum class ExpressionKind {
  kConstant,
  kName,         // text
  kList,         // children
  kTuple,        // children
  kDict,         // children: key, value, key, value, ...
  kAttribute,    // child.text
  kItem,         // child[child]
  kSlice,        // begin:end:step, each may be null; only inside kItem
  kCall,         // child(children..., named...)
  kFilter,       // child|text(children..., named...); a null child: the body of {% filter %}
  kTest,         // child is text(children..., named...)
  kSplat,        // *child, only as an argument
  kDoubleSplat,  // **child, only as an argument
  kNot,
  kNegative,
  kPositive,
  kBinary,   // child text child
  kConcat,   // children
  kCompare,  // child operators[0] child operators[1] child ...
  kAnd,
  kOr,
  kConditional,  // child if child else child (which may be null)
};

struct Expression {
  ExpressionKind kind = ExpressionKind::kConstant;
  int line = 1;
  int depth = 1;  // of the tree
  Value value = {};
  std::string text = {};
  std::vector<ExpressionPtr> children = {};
  std::vector<std::pair<std::string, ExpressionPtr>> named = {};
  std::vector<std::string> operators = {};
};

// What a value is assigned to: name, name.attribute (a namespace's) or a tuple of targets.
struct Target {
  std::string name = {};
  std::string attribute = {};
  std::vector<Target> parts = {};
};

struct Statement;
using Body = std::vector<std::unique_ptr<Statement>>;

// {% macro %} and {% call %}.
struct MacroBody {
  std::string name;
  std::vector<std::string> parameters;
  std::vector<ExpressionPtr> defaults;  // of the last parameters
  Body body;
  bool uses_varargs = false;
  bool uses_kwargs = false;
  bool uses_caller = false;
};

enum class StatementKind {
  kData,        // text
  kOutput,      // {{ expression }}
  kIf,          // branches, other
  kFor,         // target in expression [if condition]: body, other
  kSet,         // target = expression
  kSetBlock,    // target = body [through the filters of expression]
  kMacro,       // macro
  kCall,        // expression, called with macro as "caller"
  kFilter,      // body through the filters of expression
  kWith,        // targets = expressions: body
  kGeneration,  // body
  kBreak,
  kContinue,
};

struct Statement {
  StatementKind kind = StatementKind::kData;
  int line = 1;
  std::string text = {};
  ExpressionPtr expression = {};
  ExpressionPtr condition = {};
  Target target = {};
  bool recursive = false;
  Body body = {};
  Body other = {};
  std::vector<std::pair<ExpressionPtr, Body>> branches = {};
  std::vector<std::pair<Target, ExpressionPtr>> assignments = {};
  std::unique_ptr<MacroBody> macro = {};
};

// Throws Error that begins with "line N: ".
Body parse(std::string_view source);

}  // namespace qgrpo::tokenizer::jinja
