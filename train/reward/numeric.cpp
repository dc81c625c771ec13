#include "train/reward/numeric.h"

#include "train/reward/answer.h"

namespace qgrpo::train {

MathAnswer numeric_answer(std::string_view text) {
  return last_number_expression(answer_part(text));
}

bool same_numeric_answer(const MathAnswer& found, const MathAnswer& wanted) {
  return found.node && wanted.node && same_math(*found.node, *wanted.node, MathRounding::none);
}

}  // namespace qgrpo::train
