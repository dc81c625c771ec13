#pragma once

#include <span>
#include <utility>

#include "cpu/layer_context.h"
#include "model/ops/ops.h"

// The rollout's operators over the paged cache: RolloutOps names the formulas and shapes. float32.

namespace qgrpo::cpu {

void kv_write(LayerContext& context, const KvCacheLayer& cache, ConstTensorView k,
              ConstTensorView v, std::span<const std::int32_t> slots);

// Key blocks are 64 LOGICAL positions, from 0 to prompt_length and anew from there, gathered from
// the cache's slots into the scratch that attention_forward uses, and go through the same kernel:
// the two are bit-equal. Neighbours with one prompt_group (>= 0) share the gathering of the
// prompt's blocks; their prompt_length must be equal.
void paged_attention(LayerContext& context, TensorView o, ConstTensorView q,
                     const KvCacheLayer& cache, std::int32_t block_size,
                     const AttentionShape& shape, std::span<const PagedSequence> sequences);

void copy_blocks(const KvCacheLayer& cache,
                 std::span<const std::pair<std::int32_t, std::int32_t>> pairs);

}  // namespace qgrpo::cpu
