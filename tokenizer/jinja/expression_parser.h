#pragma once

#include <set>
#include <string>
#include <utility>

#include "tokenizer/jinja/ast.h"
#include "tokenizer/jinja/token_stream.h"

namespace qgrpo::tokenizer::jinja {

// Reads expressions from the tokens, by recursive descent: a function for each level of precedence,
// each of which leaves the first token that is not its own.
class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  // With a condition: A if B else C.
  ExpressionPtr expression(bool with_condition = true);

  // Where expressions with commas between them are a tuple without parentheses of its own.
  enum class Tuple { kOutput, kCondition, kLoop, kParentheses };
  // One expression, or, with commas, a tuple.
  ExpressionPtr tuple(Tuple kind);

  // A filter and its arguments, from its "|" on and behind that.
  ExpressionPtr filter(ExpressionPtr node);
  ExpressionPtr filter_behind_bar(ExpressionPtr node);
  // What {% print %} joins: expressions with commas between.
  ExpressionPtr printed(int line);

  // The names read since the last exchange: a macro's body tells by them what it uses.
  std::set<std::string> exchange_names(std::set<std::string> names) {
    return std::exchange(names_, std::move(names));
  }

 private:
  ExpressionPtr conditional();
  ExpressionPtr disjunction();
  ExpressionPtr conjunction();
  ExpressionPtr negation();
  ExpressionPtr comparison();
  ExpressionPtr sum();
  ExpressionPtr concatenation();
  ExpressionPtr product();
  ExpressionPtr power();
  ExpressionPtr signed_value(bool with_filters);
  ExpressionPtr primary();
  ExpressionPtr parenthesized();
  ExpressionPtr list(int line);
  ExpressionPtr dict(int line);
  ExpressionPtr postfix(ExpressionPtr node);
  ExpressionPtr subscript();
  void arguments(Expression& to);
  ExpressionPtr call(ExpressionPtr node);
  ExpressionPtr named_operation(ExpressionKind kind, ExpressionPtr node);
  ExpressionPtr test(ExpressionPtr node);
  bool at_end_of(Tuple tuple) const;

  TokenStream& tokens_;
  std::set<std::string> names_;
};

}  // namespace qgrpo::tokenizer::jinja
