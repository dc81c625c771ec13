#include "train/options/memory.h"

namespace qgrpo::train {

void describe(MemoryOptions& o, OptionSet& set) {
  set.group("Memory");
  set.flag("gradient_checkpointing", o.gradient_checkpointing,
           "Save memory: compute blocks anew in the backward pass where there is no room");
  set.whole("micro_batch_tokens", o.micro_batch_tokens, "N", "0 = chosen from the memory plan")
      .within(0, 1 << 24, "0 = chosen from the plan");
  set.memory("device_memory", o.device_memory_gb, "SIZE",
             "What the run may use, e.g. 24GB (default: what is free)");
  set.number("gpu_memory_utilization", o.gpu_memory_utilization, "X",
             "The part of --device-memory that is used")
      .above(0, 1, "0 < utilization <= 1");
}

}  // namespace qgrpo::train
