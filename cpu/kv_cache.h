#pragma once

#include <span>
#include <utility>

#include "cpu/layer_context.h"
#include "model/ops/ops.h"

// RolloutOps' operators that write the paged cache; float32.

namespace qgrpo::cpu {

void kv_write(LayerContext& context, const KvCacheLayer& cache, ConstTensorView k,
              ConstTensorView v, std::span<const std::int32_t> slots);

void copy_blocks(const KvCacheLayer& cache,
                 std::span<const std::pair<std::int32_t, std::int32_t>> pairs);

}  // namespace qgrpo::cpu
