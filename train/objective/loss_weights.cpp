#include "train/objective/loss_weights.h"

#include <algorithm>
#include <numeric>

#include "model/ops/error.h"

namespace qgrpo::train {

std::vector<double> token_weights(std::span<const std::int64_t> lengths,
                                  const LossNormalization& normalization) {
  const auto batch = static_cast<double>(lengths.size());
  const auto accumulation = static_cast<double>(normalization.accumulation_steps);
  require(normalization.accumulation_steps > 0, "accumulation_steps is {}, expected at least 1",
          normalization.accumulation_steps);
  for (const std::int64_t n : lengths) {
    require(n >= 0, "a completion has {} tokens, expected no negative number", n);
  }

  const bool nothing_counts =
      std::all_of(lengths.begin(), lengths.end(), [](std::int64_t n) { return n == 0; });
  std::vector<double> weights;
  weights.reserve(lengths.size());
  switch (normalization.type) {
    case LossType::grpo:
    case LossType::sapo:
      for (const std::int64_t n : lengths) {
        weights.push_back(
            1.0 / (static_cast<double>(std::max<std::int64_t>(n, 1)) * batch * accumulation));
      }
      break;
    case LossType::bnpo: {
      const std::int64_t tokens = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
      weights.assign(lengths.size(),
                     1.0 / (static_cast<double>(std::max<std::int64_t>(tokens, 1)) * accumulation));
      break;
    }
    case LossType::dr_grpo:
      require(normalization.max_completion_length > 0,
              "max_completion_length is {}, expected at least 1 for loss_type dr_grpo",
              normalization.max_completion_length);
      weights.assign(
          lengths.size(),
          1.0 / (batch * static_cast<double>(normalization.max_completion_length) * accumulation));
      break;
    case LossType::luspo:
      weights.assign(lengths.size(), 1.0 / (batch * accumulation));
      break;
    case LossType::dapo:
    case LossType::cispo:
    case LossType::vespo:
      require(normalization.step_tokens > 0.0 || nothing_counts,
              "the step has {} loss tokens, expected at least 1 for this loss_type",
              normalization.step_tokens);
      weights.assign(lengths.size(), 1.0 / normalization.step_tokens);
      break;
  }
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    if (lengths[i] == 0) weights[i] = 0.0;
  }
  return weights;
}

}  // namespace qgrpo::train
