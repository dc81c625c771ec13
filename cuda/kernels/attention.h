#pragma once

#include "cuda/kernels/types.h"

namespace qgrpo::cuda::kernels {

inline constexpr int kQueryTile = 64;
inline constexpr int kKeyTile = 64;  // kAttentionKeyBlock of model/ops/ops.h

// Up to 64 neighbouring queries of one segment; all are rows of the packed batch.
struct QueryTile {
  std::int32_t query = 0;    // first query
  std::int32_t queries = 0;  // how many
  std::int32_t own = 0;      // the segment's first token: its key tiles begin here
  std::int32_t parent = 0;   // the parent's first token: its key tiles begin here
  std::int32_t parent_length = 0;
};

// o = softmax(q k^T / sqrt(D)) v over the parent's tokens and, causally, the segment's own; lse =
// log-sum-exp of the scaled scores. q, o (T, heads * D), k, v (T, kv_heads * D) bf16; lse (T,
// heads) f32. D = dim: 16, 32, 64 or 128, anything else is cudaErrorInvalidValue.
cudaError_t attention_forward(cudaStream_t stream, bf16* o, float* lse, const bf16* q,
                              const bf16* k, const bf16* v, const QueryTile* tiles,
                              std::int64_t tile_count, int heads, int kv_heads, int dim);

}  // namespace qgrpo::cuda::kernels
