#pragma once

#include <cstdint>

#include "model/ops/tensor.h"

namespace qgrpo {

struct AttentionShape {
  std::int32_t heads = 0;     // NH query heads
  std::int32_t kv_heads = 0;  // NKV; NH is a multiple of it
  std::int32_t head_dim = 0;  // D
  // The softmax scale is 1 / sqrt(D).
};

// One layer's paged cache. k, v: (blocks, block_size, NKV * D).
struct KvCacheLayer {
  TensorView k;
  TensorView v;
};

}  // namespace qgrpo
