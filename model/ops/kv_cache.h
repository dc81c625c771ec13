#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "model/ops/tensor.h"

// What RolloutOps' operators over the paged cache take.
namespace qgrpo {

// One layer's paged cache. k, v: (blocks, block_size, NKV * D).
struct KvCacheLayer {
  TensorView k;
  TensorView v;
};

// Throws Error naming `op` unless all slots are in [0, capacity).
void require_slots(const char* op, std::span<const std::int32_t> slots, std::int64_t capacity);

// Throws Error unless all blocks of the pairs (from, to) are in [0, blocks).
void require_block_copies(std::span<const std::pair<std::int32_t, std::int32_t>> pairs,
                          std::int64_t blocks);

}  // namespace qgrpo
