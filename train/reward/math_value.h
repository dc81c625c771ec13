#pragma once

#include <optional>
#include <string>

#include "train/reward/math_node.h"
#include "train/reward/math_number.h"

namespace qgrpo::train {

// The digits of Tok::number. Nothing for an exponent of more than 18 digits.
std::optional<MathValue> value_of_digits(const std::string& digits);

// The value of a scalar. Symbols get small rational values that `point` and their names decide;
// point 0 is for expressions without any. Nothing where there is none (1/0, a list, a relation) or
// none that this knows.
std::optional<MathValue> evaluate(const MathNode& node, int point);

}  // namespace qgrpo::train
