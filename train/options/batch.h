#pragma once

#include <cstdint>

#include "train/options/option_set.h"

namespace qgrpo::train {

// Groups per optimizer step of GRPO = prompts_per_step * gradient_accumulation_steps.
struct BatchOptions {
  std::int64_t prompts_per_step = 1;
  std::int64_t gradient_accumulation_steps = 1;
};

void describe(BatchOptions& options, OptionSet& set);

}  // namespace qgrpo::train
