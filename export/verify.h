#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/lora.h"
#include "model/model.h"

namespace qgrpo::exporting {

// The sequences on which two models are compared, and what the first of them says there.
struct Recording {
  std::vector<std::vector<std::int32_t>> sequences;  // prompts with the model's greedy continuation
  std::vector<float> logprobs;  // (tokens, V): log softmax of every position, in order
  std::int64_t vocab = 0;
};

// Of what was exported (q) against what it was made from (p).
struct Comparison {
  std::int64_t tokens = 0;  // positions compared
  double mean_kl = 0.0;     // mean over positions of KL(p || q), nats
  double max_kl = 0.0;
  double greedy_agreement = 0.0;  // the part of positions whose most likely token is the same
};

// Continues each prompt greedily by up to `new_tokens`, then records the model's log-probs of all
// positions. `adapter`: index of the adapter, or -1.
Recording record(const model::Model& model, std::int32_t adapter,
                 const std::vector<std::vector<std::int32_t>>& prompts, std::int32_t new_tokens);

// Runs the exported model over the recorded sequences. Throws Error where it has another
// vocabulary, or a log-prob is not finite.
Comparison compare(const Recording& recording, const model::Model& exported);

}  // namespace qgrpo::exporting
