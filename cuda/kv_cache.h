#pragma once

#include <span>
#include <utility>

#include "cuda/device/device.h"
#include "cuda/rope.h"

namespace qgrpo::cuda {

// RolloutOps' operators that write the paged cache.
class CacheWriter {
 public:
  // kv_write. Throws Error when a slot is not one of the cache's.
  void write(Device& device, const KvCacheLayer& cache, ConstTensorView k, ConstTensorView v,
             std::span<const std::int32_t> slots);
  // rope_kv_write, in one launch.
  void rope_write(Device& device, Rope& rope, const KvCacheLayer& cache, TensorView q, TensorView k,
                  ConstTensorView v, const RopeFrequencies& frequencies,
                  std::span<const std::int32_t> positions, std::span<const std::int32_t> slots);
  // copy_blocks: as if one pair after the other. One launch unless a pair takes part in what an
  // earlier one wrote, or writes what an earlier one reads.
  void copy_blocks(Device& device, const KvCacheLayer& cache,
                   std::span<const std::pair<std::int32_t, std::int32_t>> pairs);

 private:
  DeviceArray<std::int32_t> positions_{Slot::cache_positions};
  DeviceArray<std::int32_t> slots_{Slot::cache_slots};
  DeviceArray<std::int32_t> pairs_{Slot::cache_pairs};
};

}  // namespace qgrpo::cuda
