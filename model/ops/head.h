#pragma once

#include <cstdint>

// What TrainOps' head operators take and give.
namespace qgrpo {

// One predicted token: the logits of hidden row `row` predict `target`. Several entries may name
// the same row (the prompt's last row predicts the first token of each completion); entries are
// sorted by row.
struct HeadEntry {
  std::int32_t row = 0;
  std::int32_t target = 0;
};

// What an entry contributes to the objective: loss = sum over entries of weight *
// token_objective(...).
struct ObjectiveEntry {
  float weight = 0.0f;
  float advantage = 0.0f;
  float old_logprob = 0.0f;        // ignored on-policy
  float reference_logprob = 0.0f;  // ignored when beta = 0
};

// Read back by the host: one a HeadEntry.
struct HeadResult {
  float logprob = 0.0f;  // log softmax(logits / temperature)[target]
  float entropy = 0.0f;  // of softmax(logits / temperature), nats
};

}  // namespace qgrpo
