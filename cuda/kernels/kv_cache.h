#pragma once

#include "cuda/kernels/types.h"

namespace qgrpo::cuda::kernels {

// k_cache[slots[t]] = k[t], v_cache[slots[t]] = v[t], t < tokens; rows of `width` bf16. The slots
// are distinct.
cudaError_t kv_write(cudaStream_t stream, bf16* k_cache, bf16* v_cache, const bf16* k,
                     const bf16* v, const std::int32_t* slots, std::int64_t tokens,
                     std::int64_t width);

// What rope_kv_write works on. Token t has position positions[t] and goes to slot slots[t], or,
// where `slots` is null, to the slot of its position by block_tables (tokens, max_blocks); then a
// token with active[t] = 0 is left alone.
struct RopeKv {
  bf16* q = nullptr;        // (tokens, heads * D), turned in place
  bf16* k = nullptr;        // (tokens, kv_heads * D), turned in place
  const bf16* v = nullptr;  // (tokens, kv_heads * D)
  bf16* k_cache = nullptr;
  bf16* v_cache = nullptr;
  const float2* table = nullptr;  // (positions, D / 2): cosine and sine
  const std::int32_t* positions = nullptr;
  const std::int32_t* slots = nullptr;
  const std::int32_t* active = nullptr;
  const std::int32_t* block_tables = nullptr;
  int max_blocks = 0;
  int block_size = 0;
  int tokens = 0;
  int heads = 0;
  int kv_heads = 0;
  int dim = 0;  // a multiple of 4
};

// q and k turned as by rope() (cuda/kernels/rope.h), then kv_write of k and v, in one launch.
cudaError_t rope_kv_write(cudaStream_t stream, const RopeKv& p);

// For each i < count: block pairs[2 i + 1] of both caches = block pairs[2 i]; blocks of
// `block_elements` bf16. No block that is written is named twice.
cudaError_t copy_blocks(cudaStream_t stream, bf16* k_cache, bf16* v_cache,
                        const std::int32_t* pairs, std::int64_t count, std::int64_t block_elements);

}  // namespace qgrpo::cuda::kernels
