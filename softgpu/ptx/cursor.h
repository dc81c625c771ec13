#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "softgpu/ptx/error.h"
#include "softgpu/ptx/lexer.h"

namespace softgpu::ptx {

// Reads tokens one after the other; errors carry the module's name and the line.
class Cursor {
 public:
  Cursor(const std::vector<Token>& tokens, std::string_view name) : tokens_(&tokens), name_(name) {}

  const Token& peek(std::size_t ahead = 0) const {
    const std::size_t i = at_ + ahead;
    return i < tokens_->size() ? (*tokens_)[i] : tokens_->back();
  }
  // Throws Error at the end, so that no loop over tokens stays there.
  const Token& next() {
    if (at_end()) fail_here("the text ends too early");
    return (*tokens_)[at_++];
  }
  bool at_end() const { return peek().kind == TokenKind::end; }
  std::uint32_t line() const { return peek().line; }

  bool accept(char mark) {
    if (!peek().is(mark)) return false;
    next();
    return true;
  }
  bool accept_word(std::string_view word) {
    if (!peek().is_word(word)) return false;
    next();
    return true;
  }
  void expect(char mark) {
    if (!accept(mark)) fail_here("'{}' where '{}' was expected", peek().text, mark);
  }
  std::string_view expect_name() {
    if (peek().kind != TokenKind::name) fail_here("'{}' where a name was expected", peek().text);
    return next().text;
  }
  std::string_view expect_word() {
    if (peek().kind != TokenKind::word)
      fail_here("'{}' where a directive or type was expected", peek().text);
    return next().text;
  }
  void skip_past(char mark) {
    while (!at_end() && !peek().is(mark)) next();
    expect(mark);
  }

  template <typename... Args>
  [[noreturn]] void fail_here(fmt::format_string<Args...> format, Args&&... args) const {
    fail("{}:{}: {}", name_, line(), fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  const std::vector<Token>* tokens_;
  std::string_view name_;
  std::size_t at_ = 0;
};

// The bits of a literal. `bits` is 0 for an integer, 32 for 0f..., 64 for 0d... and decimal
// fractions (the bits of a double).
struct Literal {
  std::int64_t value = 0;
  std::uint8_t bits = 0;
};
// As a device adds: modulo 2^64.
constexpr std::int64_t wrapped_sum(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}
// Reads [+-]number. Throws Error for what is none.
Literal read_literal(Cursor& cursor);

// An unsigned integer literal; and one of 32 bits.
std::uint64_t read_size(Cursor& cursor);
std::uint32_t read_number(Cursor& cursor);

}  // namespace softgpu::ptx
