#pragma once

#include <array>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/ops/error.h"
#include "tokenizer/jinja/ast.h"
#include "tokenizer/jinja/value.h"

// How a parsed template is run. Internal to the interpreter: users include jinja.h.
namespace qgrpo::tokenizer::jinja {

// What a template may cost before it is stopped.
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
inline constexpr std::int64_t kMaxSteps = 100'000;
inline constexpr double kMaxMemory = 16.0 * 1024 * 1024;
#else
inline constexpr std::int64_t kMaxSteps = 20'000'000;       // expressions and statements
inline constexpr double kMaxMemory = 1024.0 * 1024 * 1024;  // bytes of all values made
#endif
inline constexpr int kMaxMacroDepth = 200;  // macros that call each other
inline constexpr int kMaxRunDepth = 1500;   // statements and expressions

// The variables of one block; a name that is not here is looked for in the parent.
struct Scope {
  std::shared_ptr<Scope> parent;
  std::map<std::string, Value, std::less<>> variables = {};
};
using ScopePtr = std::shared_ptr<Scope>;

// A function of this program, or a method together with its object.
struct Function : Object {
  using Body = std::function<Value(Runtime&, Arguments&)>;
  Function(std::string function_name, Body function_body)
      : name(std::move(function_name)), body(std::move(function_body)) {}
  std::string type() const override { return "function"; }
  bool callable() const override { return true; }
  Value call(Runtime& runtime, Arguments& arguments) override { return body(runtime, arguments); }
  std::string name;
  Body body;
};
Value make_function(std::string name, Function::Body body);

// namespace(): what {% set ns.x = .. %} may change.
struct Namespace : Object {
  std::string type() const override { return "Namespace"; }
  std::string repr(Runtime& runtime) const override;
  std::optional<Value> attribute(Runtime&, std::string_view name) override;
  Dict attributes;
};

// The arguments of a call matched with names, as Python does it. Throws Error that names `what`.
class Parameters {
 public:
  Parameters(std::string what, Arguments& arguments, std::initializer_list<const char*> names,
             std::size_t required = 0);
  // The argument, or null where it is not given.
  const Value* operator[](std::size_t i) const { return values_[i] ? &*values_[i] : nullptr; }
  std::int64_t integer(std::size_t i, std::int64_t standard) const;  // None: the standard
  std::string text(std::size_t i, const std::string& standard) const;
  bool flag(std::size_t i, bool standard) const;

 private:
  std::string what_;
  std::vector<const char*> names_;
  std::vector<std::optional<Value>> values_;
};

class Runtime {
 public:
  struct Output {
    std::string text;
    std::vector<std::pair<std::size_t, std::size_t>> generation;  // bytes of `text`
  };

  explicit Runtime(Dict& context);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  Output run(const Body& body);
  int line() const { return line_; }
  int repr_depth = 0;  // of namespaces that are being printed

  Value call(const Value& function, Arguments& arguments);
  Value filter(const std::string& name, const Value& input, Arguments& arguments);
  bool test(const std::string& name, const Value& input, Arguments& arguments);
  // value.name and value[key]: Undefined where there is none.
  Value attribute(const Value& value, const std::string& name);
  Value item(const Value& value, const Value& key);
  // The items of anything that can be looped over. An iterator is empty afterwards.
  std::vector<Value> iterate(const Value& value);

  // Counts work and memory; throws Error where it is too much.
  void work(std::int64_t steps);
  Value made(Value value);  // counts a new value and returns it
  // Throws Error where `bytes` more would be too much: asked before they are taken.
  void room(double bytes) const;
  // Counts the work of reading a value with all that is in it, as often as it is in it.
  void weigh(const Value& value, int depth = 0);

  // Namespaces can hold themselves: they are emptied at the end.
  void remember(const std::shared_ptr<Namespace>& space) { namespaces_.push_back(space); }

 private:
  enum class Flow { kNext, kBreak, kContinue };
  struct Macro;
  struct Loop;
  struct Depth;

  Flow run_body(const Body& body, const ScopePtr& scope);
  Flow run_statement(const Statement& statement, const ScopePtr& scope);
  Flow run_if(const Statement& statement, const ScopePtr& scope);
  void run_for(const Statement& statement, const Value& items, const ScopePtr& scope, int depth);
  void assign(const Target& target, const Value& value, const ScopePtr& scope);
  void print(const Value& value);
  void write(std::string_view text);
  // What the function writes, as text.
  template <typename Call>
  std::string capture(const Call& call);
  Value call_macro(Macro& macro, Arguments& arguments);
  Value make_macro(const MacroBody& body, const ScopePtr& scope);

  Value evaluate(const Expression& expression, const ScopePtr& scope);
  std::vector<Value> items_of(const Expression& expression, const ScopePtr& scope);
  std::shared_ptr<Dict> dict_of(const Expression& expression, const ScopePtr& scope);
  Value evaluate_item(const Expression& expression, const ScopePtr& scope);
  Value evaluate_name(const Expression& expression, const ScopePtr& scope);
  Value compare(const Expression& expression, const ScopePtr& scope);
  Value concatenate(const Expression& expression, const ScopePtr& scope);
  Value through_filters(const Expression* expression, Value input, const ScopePtr& scope);
  Arguments arguments_of(const Expression& expression, std::size_t first, const ScopePtr& scope);

  ScopePtr globals_;
  Output output_;
  std::string* out_ = &output_.text;
  int line_ = 1;
  int depth_ = 0;
  int macro_depth_ = 0;
  std::int64_t steps_ = 0;
  double memory_ = 0;
  std::vector<std::weak_ptr<Namespace>> namespaces_;
  std::vector<std::weak_ptr<Scope>> macro_scopes_;  // each holds macros that hold it
};

// Guards recursion.
struct Runtime::Depth {
  explicit Depth(Runtime& owner) : runtime(owner) {
    if (++runtime.depth_ > kMaxRunDepth) fail("the template is nested too deeply");
  }
  ~Depth() { --runtime.depth_; }
  Runtime& runtime;
};

// Operators. They throw Error where Python would.
Value binary(Runtime& runtime, const std::string& op, const Value& a, const Value& b);
bool contains(Runtime& runtime, const Value& container, const Value& item);
bool compare_values(Runtime& runtime, const std::string& op, const Value& a, const Value& b);
Value slice(Runtime& runtime, const Value& value, const Value& begin, const Value& end,
            const Value& step);

// The method of a string, list or dict. Nothing where the type has none of that name.
std::optional<Value> method(const Value& value, const std::string& name);
using StringMethod = Value (*)(Runtime&, const std::string& text, Arguments&);
StringMethod find_string_method(std::string_view name);  // null: none
// Throws Error where a method without parameters, `name`, was given some.
void takes_nothing(const char* name, Arguments& arguments);
// str.format and the operator % of strings.
std::string format_text(Runtime& runtime, const std::string& format, Arguments& arguments);
std::string format_percent(Runtime& runtime, const std::string& format, const Value& values);

// The entries of the tables by name, and the function of one; null: there is none of that name.
template <typename Call>
struct Named {
  std::string_view name;
  Call call;
};
template <typename Call, std::size_t N>
Call find_named(const std::array<Named<Call>, N>& table, std::string_view name) {
  for (const Named<Call>& known : table) {
    if (known.name == name) return known.call;
  }
  return nullptr;
}

using Filter = Value (*)(Runtime&, const Value& input, Arguments&);
using Test = bool (*)(Runtime&, const Value& input, Arguments&);
Filter find_filter(std::string_view name);       // null: none
Filter find_list_filter(std::string_view name);  // those on sequences
Test find_test(std::string_view name);           // null: none

// range, dict, namespace, raise_exception, ...
void add_globals(Scope& scope);

// How messages name the type: "dict object".
std::string object_name(const Value& value);
// Fails with the reason where the value is undefined.
void check_defined(const Value& value);
// The text of strings, str() of all else; Undefined: "".
std::string soft_text(Runtime& runtime, const Value& value);
std::string escape_html(std::string_view text);

}  // namespace qgrpo::tokenizer::jinja
