#pragma once

#include <cstdint>

#include "train/options/option_set.h"

namespace qgrpo::train {

// What a run may use, and how it fits in.
struct MemoryOptions {
  bool gradient_checkpointing = true;   // where the blocks' activations have no room
  std::int64_t micro_batch_tokens = 0;  // 0 = chosen from the plan: at least the longest example
  double device_memory_gb = 0.0;        // what the plan may use; 0 = the machine's free memory
  double gpu_memory_utilization = 0.9;  // of device_memory_gb
};

void describe(MemoryOptions& options, OptionSet& set);

}  // namespace qgrpo::train
