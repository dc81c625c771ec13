#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/io/enum_names.h"

// How per-token losses make one number: loss = sum over tokens of weight * L
// (model/ops/objective.h). All of a completion's tokens have the same weight.
namespace qgrpo::train {

// TRL's loss_type: how the tokens are averaged, and (train/objective/objective.h) what their term is.
enum class LossType {
  grpo,     // mean over a completion's tokens, then over the completions of a micro-batch
  bnpo,     // mean over the tokens of a micro-batch
  dr_grpo,  // sum / (completions * max_completion_length) (Liu et al. 2025)
  dapo,     // mean over all tokens of the optimizer step
  luspo,    // mean over the completions of a micro-batch of the sum over their tokens
  cispo,    // as dapo, with CISPO's term
  sapo,     // as grpo, with SAPO's term
  vespo     // as dapo, with VESPO's term
};

inline constexpr auto kLossTypeNames =
    io::enum_names<LossType>("loss_type", {{LossType::grpo, "grpo"},
                                           {LossType::bnpo, "bnpo"},
                                           {LossType::dr_grpo, "dr_grpo"},
                                           {LossType::dapo, "dapo"},
                                           {LossType::luspo, "luspo"},
                                           {LossType::cispo, "cispo"},
                                           {LossType::sapo, "sapo"},
                                           {LossType::vespo, "vespo"}});

struct LossNormalization {
  LossType type = LossType::grpo;
  std::int64_t accumulation_steps = 1;     // micro-batches of an optimizer step
  std::int64_t max_completion_length = 0;  // dr_grpo only
  double step_tokens = 0.0;  // dapo, cispo, vespo: loss tokens of the whole optimizer step
};

// The weight of each completion's tokens. lengths: loss tokens (up to and including the first EOS)
// of the completions of ONE micro-batch, B of them, n_i each; ga = accumulation_steps:
//   grpo, sapo          1 / (n_i B ga)
//   bnpo                1 / (sum_i n_i ga)
//   dr_grpo             1 / (B max_completion_length ga)
//   luspo               1 / (B ga)
//   dapo, cispo, vespo  1 / step_tokens
// A length of 0 (a completion that does not count) has weight 0, and is counted in B. The losses
// and the gradients of the micro-batches of a step add up. With all but bnpo the sum does not
// depend on how the step was cut into equal micro-batches. Throws Error where a needed figure is
// not positive.
std::vector<double> token_weights(std::span<const std::int64_t> lengths,
                                  const LossNormalization& normalization);

}  // namespace qgrpo::train
