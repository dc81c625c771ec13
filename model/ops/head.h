#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

// What TrainOps' head operators take and give.
namespace qgrpo {

// One predicted token: the logits of hidden row `row` predict `target`. Several entries may name
// the same row (the prompt's last row predicts the first token of each completion); entries are
// sorted by row.
struct HeadEntry {
  std::int32_t row = 0;
  std::int32_t target = 0;
};

// What an entry contributes to the objective:
//   loss = sum over entries of weight * token_objective(...)
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

// Throws Error unless there are as many results as entries, all rows are in [0, rows) and sorted,
// and all targets in [0, vocab).
void require_entries(std::span<const HeadEntry> entries, std::size_t results, std::int64_t rows,
                     std::int64_t vocab);
// Throws Error unless each entry has a term, and a token result or none has.
void require_terms(std::span<const HeadEntry> entries, std::size_t terms, std::size_t tokens);

// float32(1 / temperature); throws Error unless the temperature is finite and above 0.
float inverse_temperature(float temperature);

}  // namespace qgrpo
