#pragma once

#include <optional>
#include <string>
#include <string_view>

// Numbers as people write them in answers, compared exactly. docs/rewards.md states the rules.
namespace qgrpo::train {

// (negative ? -1 : 1) * numerator / denominator, divided by 100 where `percent` is meant so.
struct Number {
  bool negative = false;
  std::string numerator;          // decimal digits without leading zeros; "0" for zero
  std::string denominator = "1";  // the same, not 0
  bool percent = false;           // a percent sign, or the word, stands behind it
};

// The last number of a text: digits with an optional sign, thousands commas, decimals and power of
// ten (1.5e3), fractions (3/4, 1 3/4, \frac{3}{4}). What is part of a word or an exponent (x2, m^2)
// is none. Nothing where there is no number, and for one of more than 4,096 digits. Takes time
// linear in the text.
std::optional<Number> last_number(std::string_view text);

// Whether two numbers are the same rational. Where exactly one of them is a percentage, 50 % is
// both 50 and 0.5.
bool same_value(const Number& a, const Number& b);

}  // namespace qgrpo::train
