#pragma once

#include <optional>
#include <string_view>

#include "train/reward/math_token.h"

// What the commands, words and characters of mathematics mean.
namespace qgrpo::train {

struct MathName {
  std::string_view name;
  Tok kind = Tok::other;
  std::string_view text = {};  // of the token
};

// A LaTeX command without its backslash: \times, \frac, \alpha, \sin.
std::optional<MathName> math_command(std::string_view name);
// Commands of looks alone: \left, \displaystyle, \mathbf. A group behind one stays.
bool is_ignored_command(std::string_view name);
// \text and its kin, whose group is words.
bool is_text_command(std::string_view name);
// A word in lower case that is no prose: sqrt, pi, sin, percent, degrees.
std::optional<MathName> math_word(std::string_view word);
// The character that `text` begins with, of one byte or several.
std::optional<MathName> math_character(std::string_view text);
// Superscripts and vulgar fractions: the text is the LaTeX of the same, "^2", "\frac12".
std::optional<MathName> math_composite(std::string_view text);

}  // namespace qgrpo::train
