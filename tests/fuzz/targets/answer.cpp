// What a model has written, and the answer that it is compared with: the built-in rewards.
#include "fuzz/target.h"
#include "train/reward/math_answer.h"
#include "train/reward/rewards.h"

using namespace qgrpo;

QGRPO_FUZZ_TARGET(answer) {
  const auto texts = fuzz::parts(input, 2);
  static const std::vector<train::Reward> rewards = train::parse_rewards(train::reward_names());
  const auto scores = train::score(rewards, texts[0], texts[1]);
  fuzz::check(scores.values.size() == rewards.size(), "a reward is missing");
  const train::MathAnswer found = train::math_answer(texts[0]);
  fuzz::check(found.text.size() <= texts[0].size(), "an answer is longer than its text");
  train::same_math_answer(found, found);
  train::same_math_answer(train::whole_expression(texts[0]), train::math_gold(texts[1]));
  train::last_number_expression(texts[1]);
}
