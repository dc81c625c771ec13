#pragma once

#include <string_view>

#include "train/reward/math_answer.h"

// Numbers as people write them in answers, compared exactly. docs/rewards.md states the rules.
namespace qgrpo::train {

// The last number of answer_part(text), with all that it is a part of: what is not a plain number
// (2\sqrt{3}, (3, 4), x^2 + 1) is compared as what it is. A node only where that could be read.
MathAnswer numeric_answer(std::string_view text);

// Whether both are the same value, exactly: 0.75, 3/4 and 75% are, 0.3333 and 1/3 are not. Where
// exactly one of them is a percentage, 50 % is both 50 and 0.5.
bool same_numeric_answer(const MathAnswer& found, const MathAnswer& wanted);

}  // namespace qgrpo::train
