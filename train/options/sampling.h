#pragma once

#include <cstdint>

#include "train/options/option_set.h"

namespace qgrpo::train {

// How completions are sampled.
struct SamplingOptions {
  std::int64_t num_generations = 8;  // completions a prompt, G
  std::int64_t max_completion_length = 512;
  double temperature = 0.9;
  double top_p = 1.0;
  std::int64_t top_k = 0;
  double min_p = 0.0;
  double repetition_penalty = 1.0;
};

void describe(SamplingOptions& options, OptionSet& set);

}  // namespace qgrpo::train
