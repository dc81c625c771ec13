#pragma once

#include <span>
#include <vector>

#include "train/reward/math_token.h"

// What stands behind a number and is no part of its value.
namespace qgrpo::train {

// Whether tokens[i], behind a value, is a unit or a word that counts something.
bool is_unit_at(std::span<const MathToken> tokens, std::size_t i);
// Behind the unit at tokens[i] with all that belongs to it: cm^2, km/h, feet per second.
std::size_t unit_end(std::span<const MathToken> tokens, std::size_t i);
// million, thousand, ...
bool is_multiplier(const MathToken& token);

// The tokens without line ends, currency signs and units; "million" and its kin as products.
std::vector<MathToken> without_units(std::span<const MathToken> tokens);

}  // namespace qgrpo::train
