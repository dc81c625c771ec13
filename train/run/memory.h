#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "model/training_pass.h"
#include "train/options/memory.h"

namespace qgrpo::train {

// The memory that a plan may use: device_memory_gb * gpu_memory_utilization where that is given;
// else gpu_memory_utilization of what the device has free; on a CPU, the smaller of 3 GiB and 90 %
// of what is available now (more only where the run needs more than 3 GiB).
struct MemoryBudget {
  std::size_t bytes = 0;
  bool soft = false;  // may be exceeded up to hard_bytes when the run cannot do with less
  std::size_t hard_bytes = 0;

  std::size_t most() const { return soft ? hard_bytes : bytes; }
};
// `device_free`: Backend::free_bytes().
MemoryBudget memory_budget(const MemoryOptions& options, std::optional<std::size_t> device_free,
                           std::size_t host_available);

// Whether a training pass of this capacity fits, with everything beside it.
using FitsPass = std::function<bool(const model::PassCapacity&)>;

// Where the activations of a pass's blocks stay, the fastest way that fits: kept on the device in
// all blocks > in some, the others computed anew from their inputs > these inputs in the host's
// memory, of as many blocks as needed. gradient_checkpointing: whether blocks may be computed anew;
// may_offload: whether inputs may leave the device.
model::PassCapacity place_activations(model::PassCapacity pass, std::int64_t num_layers,
                                      bool gradient_checkpointing, bool may_offload,
                                      const FitsPass& fits);

}  // namespace qgrpo::train
