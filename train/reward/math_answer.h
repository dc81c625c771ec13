#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "train/reward/math_compare.h"

// The answer of a text as mathematics: where it stands, read once, and compared as what it is.
// docs/rewards.md states the rules. All take time linear in the text; what is read as one
// expression is limited (train/reward/math_parse.h).
namespace qgrpo::train {

struct MathAnswer {
  std::string text;              // as it is written; empty where nothing was found
  std::optional<MathNode> node;  // nothing where it is no mathematics
};

// The answer for the reward `math`. It stands in the last \boxed{} (in several, where these are
// side by side), else in the last <answer>, else behind the last "####", else behind the last
// "answer is" or "answer:", else it is the text as a whole, else its last formula or number
// (math-verify's order).
MathAnswer math_answer(std::string_view text);

// The expected answer: as math_answer(), but a short text without a box, a tag or "####" is the answer
// as it is, words too (June 20).
MathAnswer math_gold(std::string_view text);

// Whether both are the same: letter for letter but for spaces, \text{}, $ and the case of words, or
// by same_math() with numbers rounded to six decimals where one is written in decimals.
bool same_math_answer(const MathAnswer& found, const MathAnswer& wanted);

// All of the text as one expression. In prose (a text with words) no node.
MathAnswer whole_expression(std::string_view text);

// The last number of a text together with all that it is a part of: 2\sqrt{3}, not 3. A node only
// where the whole of that is mathematics. Empty where there is no number.
MathAnswer last_number_expression(std::string_view text);

}  // namespace qgrpo::train
