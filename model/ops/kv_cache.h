#pragma once

#include "model/ops/tensor.h"

// What RolloutOps' operators over the paged cache take.
namespace qgrpo {

// One layer's paged cache. k, v: (blocks, block_size, NKV * D).
struct KvCacheLayer {
  TensorView k;
  TensorView v;
};

}  // namespace qgrpo
