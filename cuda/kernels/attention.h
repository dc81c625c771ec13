#pragma once

#include "cuda/kernels/attention_types.h"

namespace qgrpo::cuda::kernels {

// Over the parent's tokens and, causally, the segment's own:
//   s   = q k^T / sqrt(D)
//   o   = softmax(s) v
//   lse = log sum exp s          (T, heads) f32 or null
// Both =. p is rounded to bf16 before the product with v, o once.
cudaError_t attention_forward(cudaStream_t stream, bf16* o, float* lse, const bf16* q,
                              const bf16* k, const bf16* v, const QueryTile* tiles,
                              std::int64_t tile_count, const AttentionSizes& sizes);

// With p = exp(s - lse):
//   delta = sum over d of d_o o
//   ds    = p (d_o v^T - delta)
//   dq    = ds k / sqrt(D)
//   statistics[head][t] = (lse log2(e), delta)          float2 (heads, T)
// Both =. ds is rounded to bf16 before the product, dq once.
cudaError_t attention_backward_queries(cudaStream_t stream, bf16* dq, float2* statistics,
                                       const bf16* d_o, const bf16* q, const bf16* k, const bf16* v,
                                       const bf16* o, const float* lse, const QueryTile* tiles,
                                       std::int64_t tile_count, const AttentionSizes& sizes);

// dk = ds^T q / sqrt(D), dv = p^T d_o, summed over each task's steps in order and, within a step,
// over the query heads of the KV head; = for tasks without a slot. The others write float32 sums,
// without the factor, to partial[slot][kv_head][dk, dv][64][D].
cudaError_t attention_backward_keys(cudaStream_t stream, bf16* dk, bf16* dv, float* partial,
                                    const bf16* d_o, const bf16* q, const bf16* k, const bf16* v,
                                    const float2* statistics, const KeyTask* tasks,
                                    std::int64_t task_count, const QueryStep* steps,
                                    const AttentionSizes& sizes);

// dk, dv = the sums over the slots of each split tile, in their order.
cudaError_t attention_backward_sum(cudaStream_t stream, bf16* dk, bf16* dv, const float* partial,
                                   const KeySum* sums, std::int64_t sum_count,
                                   const AttentionSizes& sizes);

}  // namespace qgrpo::cuda::kernels
