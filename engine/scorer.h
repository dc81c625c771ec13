#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/top_logprobs.h"
#include "model/training_pass.h"

namespace qgrpo::engine {

// The log-probs of given tokens.
struct ScoredText {
  // logprobs[t - 1] = log softmax(logits[t - 1])[ids[t]] at temperature 1: one fewer than there are ids.
  std::vector<float> logprobs;
  std::vector<std::vector<TokenLogprob>> top;  // the same; empty unless asked for
};

// Scores texts in one pass each time: no sampling, no cache. Its memory grows with the largest batch so far.
class Scorer {
 public:
  explicit Scorer(const model::Model& model) : model_(&model) {}

  // All texts at once; a text's values do not depend on those beside it. `top`: so many of the likeliest tokens a
  // position. Throws Error where memory does not suffice, or a log-prob is not finite.
  std::vector<ScoredText> score(std::span<const std::vector<std::int32_t>> texts,
                                std::int32_t adapter, std::int32_t top = 0);

 private:
  void reserve(std::int64_t tokens);

  const model::Model* model_;
  std::unique_ptr<Buffer> buffer_;
  model::Arena arena_;
  std::optional<model::TrainingPass> pass_;
};

}  // namespace qgrpo::engine
