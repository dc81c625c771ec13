#pragma once

#include "cuda/kernels/types.h"

namespace qgrpo::cuda::kernels {

inline constexpr int kQueryTile = 64;  // queries a block
inline constexpr int kKeyTile = 64;    // keys a block of the backward over keys
inline constexpr int kQueryStep = 32;  // queries that it takes at a time

// Up to 64 neighbouring queries of one segment; all are rows of the packed batch.
struct QueryTile {
  std::int32_t query = 0;    // first query
  std::int32_t queries = 0;  // how many
  std::int32_t own = 0;      // the segment's first token: its key tiles begin here
  std::int32_t parent = 0;   // the parent's first token: its key tiles begin here
  std::int32_t parent_length = 0;
};

// Up to 32 neighbouring queries of one segment, counted from its start: a step of the walk over the
// queries that see a key tile.
struct QueryStep {
  std::int32_t query = 0;
  std::int32_t queries = 0;
};

// Up to 64 neighbouring keys of one segment, and (a part of) the steps that may see them: the rest
// of the segment, then its children. A query sees the keys that are not behind it in the batch,
// which a parent's never are.
struct KeyTask {
  std::int32_t key = 0;   // first key, a multiple of 64 from the segment's start
  std::int32_t keys = 0;  // how many
  std::int32_t first_step = 0;
  std::int32_t steps = 0;
  std::int32_t slot = -1;  // -1: these are all of its queries; else where the partial sums go
};

// A key tile whose queries are split: its gradient is the sum over its slots in order.
struct KeySum {
  std::int32_t key = 0;
  std::int32_t keys = 0;
  std::int32_t first_slot = 0;
  std::int32_t slots = 0;
};

// What the launchers below share. q, o, d_o, dq: (T, heads * D); k, v, dk, dv: (T, kv_heads * D)
// bf16. D = 16, 32, 64 or 128; anything else is cudaErrorInvalidValue.
struct AttentionSizes {
  std::int64_t tokens = 0;
  int heads = 0;
  int kv_heads = 0;
  int dim = 0;
};

// o = softmax(q k^T / sqrt(D)) v over the parent's tokens and, causally, the segment's own; lse =
// log-sum-exp of the scaled scores, (T, heads) f32 or null. Both =. p is rounded to bf16 before the
// product with v, o once.
cudaError_t attention_forward(cudaStream_t stream, bf16* o, float* lse, const bf16* q,
                              const bf16* k, const bf16* v, const QueryTile* tiles,
                              std::int64_t tile_count, const AttentionSizes& sizes);

// With p = exp(s - lse), delta = sum_d d_o o, ds = p (d_o v^T - delta):
//   dq = ds k / sqrt(D), =;   statistics[head][t] = (lse log2(e), delta), float2 (heads, T), =
// ds is rounded to bf16 before the product, dq once.
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
