#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/ops/ops.h"

namespace qgrpo::engine {

// A token that might follow, and log softmax(logits)[id] at temperature 1.
struct TokenLogprob {
  std::int32_t id = 0;
  float logprob = 0.0f;
};

// For each of `rows`, rising rows of `hidden` (rows, H), its counts[i] most likely tokens, the likeliest first (the
// lowest id among equals); none where the count is 0. The log-probs are those of TrainOps::head_logprob, so they
// have the bits that a drawn token's SampledToken::logprob has on a CPU.
std::vector<std::vector<TokenLogprob>> top_logprobs(TrainOps& ops, ConstTensorView hidden,
                                                    const Linear& head,
                                                    std::span<const std::int32_t> rows,
                                                    std::span<const std::int32_t> counts);

}  // namespace qgrpo::engine
