#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

// Mathematics as people write it, LaTeX, ASCII and Unicode mixed, as a row of tokens.
namespace qgrpo::train {

enum class Tok : std::uint8_t {
  number,    // text: digits, "1.5", "1.5e-3", "0.1(36)" for repeating digits; never a part of one
  letter,    // one letter or a Greek one by its name ("x", "pi")
  word,      // two or more letters that are no function; prose, a unit or a product
  text,      // \text{...} and its kin: what is in it
  function,  // "frac", "sqrt", "root" (sqrt in ASCII), "log", "sin", ...
  begin,     // \begin{pmatrix}; text: pmatrix
  end,
  plus,
  minus,
  plus_minus,
  minus_plus,
  times,
  divide,
  power,
  sub,
  factorial,
  percent,
  degree,
  open,  // ( [ \langle: text is "(" or "["
  close,
  group_open,  // { and }
  group_close,
  set_open,  // \{ and \}
  set_close,
  floor_open,
  floor_close,
  ceil_open,
  ceil_close,
  bar,
  comma,  // also ; and the words and, or
  colon,
  equal,
  less,
  greater,
  less_equal,
  greater_equal,
  not_equal,
  member,  // \in
  unite,
  intersect,
  ampersand,
  row,  // "\\"
  infinity,
  empty_set,
  currency,
  stop,   // a full stop
  line,   // the end of a line
  other,  // what is no mathematics, or none that is known
};

struct MathToken {
  Tok kind = Tok::other;
  std::string text;
  bool spaced = false;    // white space or a LaTeX space before it
  std::size_t begin = 0;  // where it stands in the text, up to end
  std::size_t end = 0;
};

// Whether `word` is one of `table`.
inline bool one_of(std::span<const std::string_view> table, std::string_view word) {
  return std::find(table.begin(), table.end(), word) != table.end();
}

}  // namespace qgrpo::train
