#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "tokenizer/jinja/ast.h"
#include "tokenizer/jinja/token_stream.h"

// Makes the nodes of expressions, and keeps count of how deep they are.
namespace qgrpo::tokenizer::jinja {

inline ExpressionPtr make(ExpressionKind kind, int line, std::string text = {}) {
  auto out = std::make_unique<Expression>();
  out->kind = kind;
  out->line = line;
  out->text = std::move(text);
  return out;
}

// Chains like a + a + a + ... become deep trees without recursion here.
inline void add(Expression& to, ExpressionPtr child) {
  if (child) {
    to.depth = std::max(to.depth, child->depth + 1);
    if (to.depth > kMaxDepth)
      parse_error(to.line, fmt::format("nested more than {} deep", kMaxDepth));
  }
  to.children.push_back(std::move(child));
}

inline void add_named(Expression& to, std::string name, ExpressionPtr child) {
  to.depth = std::max(to.depth, child->depth + 1);
  to.named.emplace_back(std::move(name), std::move(child));
}

inline ExpressionPtr unary(ExpressionKind kind, int line, ExpressionPtr child) {
  auto out = make(kind, line);
  add(*out, std::move(child));
  return out;
}

inline ExpressionPtr binary(ExpressionKind kind, int line, std::string text, ExpressionPtr left,
                            ExpressionPtr right) {
  auto out = make(kind, line, std::move(text));
  add(*out, std::move(left));
  add(*out, std::move(right));
  return out;
}

inline ExpressionPtr constant(int line, Value value) {
  auto out = make(ExpressionKind::kConstant, line);
  out->value = std::move(value);
  return out;
}

}  // namespace qgrpo::tokenizer::jinja
