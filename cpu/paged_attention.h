#pragma once

#include <span>

#include "cpu/layer_context.h"
#include "model/ops/ops.h"

// RolloutOps' attention over the paged cache, which names formula and shapes; float32.

namespace qgrpo::cpu {

// Key blocks are 64 LOGICAL positions, from 0 to prompt_length and anew from there, gathered from
// the cache's slots into the scratch that attention_forward uses, and go through the same kernel:
// the two are bit-equal. Neighbours with one prompt_group (>= 0) share the gathering of the
// prompt's blocks; their prompt_length must be equal.
void paged_attention(LayerContext& context, TensorView o, ConstTensorView q,
                     const KvCacheLayer& cache, std::int32_t block_size,
                     const AttentionShape& shape, std::span<const PagedSequence> sequences);

}  // namespace qgrpo::cpu
