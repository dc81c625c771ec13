#pragma once

#include "train/reward/math_node.h"

// When two answers are the same one. The rules are those of math-verify 0.9's verify() where these
// are right; docs/rewards.md lists where they differ.
namespace qgrpo::train {

enum class MathRounding {
  none,          // numbers are equal or not
  six_decimals,  // a number written in decimals also equals what rounds to it at the sixth place
};

// Whether `found` answers `wanted`:
// - scalars: the same value at every point, symbols under the same names; 50 % is 50 and 1/2
// - a relation: x = 5 and 5 (the last side of an equation whose first is a symbol or a number);
//   equations up to a factor, inequalities up to a positive one, both also turned around
// - x > 5 and (5, \infty); \pm stands for two values
// - lists and sets without order, tuples and intervals with it and with their brackets; a list and
//   a tuple with the order
// - matrices by their elements; 1010_2 equals 1010_2 and 1010
bool same_math(const MathNode& found, const MathNode& wanted, MathRounding rounding);

}  // namespace qgrpo::train
