#include "softgpu/ptx/cursor.h"

#include <bit>
#include <charconv>
#include <limits>

namespace softgpu::ptx {
namespace {

template <typename T>
bool parse_all(std::string_view digits, int base, T& value) {
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  return error == std::errc{} && end == digits.data() + digits.size() && !digits.empty();
}

bool parse_integer(std::string_view text, std::uint64_t& value) {
  if (text.ends_with('U')) text.remove_suffix(1);
  if (text.size() > 1 && text[0] == '0') {
    if (text[1] == 'x' || text[1] == 'X') return parse_all(text.substr(2), 16, value);
    if (text[1] == 'b' || text[1] == 'B') return parse_all(text.substr(2), 2, value);
    return parse_all(text.substr(1), 8, value);
  }
  return parse_all(text, 10, value);
}

}  // namespace

Literal read_literal(Cursor& cursor) {
  bool negative = false;
  while (cursor.peek().is('-') || cursor.peek().is('+'))
    negative ^= cursor.next().text.front() == '-';
  if (cursor.peek().kind != TokenKind::number)
    cursor.fail_here("'{}' where a number was expected", cursor.peek().text);
  const std::string_view text = cursor.peek().text;
  const char prefix = text.size() > 1 && text[0] == '0' ? text[1] : '0';
  Literal literal;
  std::uint64_t bits = 0;
  if ((prefix == 'f' || prefix == 'F') && text.size() == 10 &&
      parse_all(text.substr(2), 16, bits)) {
    if (negative) bits ^= 0x8000'0000u;
    literal = {static_cast<std::int64_t>(bits), 32};
  } else if ((prefix == 'd' || prefix == 'D') && text.size() == 18 &&
             parse_all(text.substr(2), 16, bits)) {
    if (negative) bits ^= 1ull << 63;
    literal = {static_cast<std::int64_t>(bits), 64};
  } else if (parse_integer(text, bits)) {
    literal = {static_cast<std::int64_t>(negative ? 0 - bits : bits), 0};
  } else {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size())
      cursor.fail_here("'{}' is not a number", text);
    literal = {std::bit_cast<std::int64_t>(negative ? -value : value), 64};
  }
  cursor.next();
  return literal;
}

std::uint64_t read_size(Cursor& cursor) {
  const Literal literal = read_literal(cursor);
  if (literal.bits != 0 || literal.value < 0)
    cursor.fail_here("a size must be a whole number that is not negative");
  return static_cast<std::uint64_t>(literal.value);
}

std::uint32_t read_number(Cursor& cursor) {
  const std::uint64_t number = read_size(cursor);
  if (number > std::numeric_limits<std::uint32_t>::max())
    cursor.fail_here("the number {} has more than 32 bits", number);
  return static_cast<std::uint32_t>(number);
}

}  // namespace softgpu::ptx
