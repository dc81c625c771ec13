#pragma once

#include "cuda/kernels/types.h"

namespace qgrpo::cuda::kernels {

inline constexpr int kPagedTileRows = 64;  // (token, head) rows of one KV head in a tile
inline constexpr int kPagedKeyTile = 64;   // kAttentionKeyBlock of model/ops/ops.h

// One layer's cache, (blocks, block_size, kv_heads * D): a slot is a block's index * block_size + a
// row of it.
struct PagedCache {
  const bf16* k = nullptr;
  const bf16* v = nullptr;
  int block_size = 0;
};

// The heads and the head size D: 16, 32, 64 or 128, anything else is cudaErrorInvalidValue.
struct PagedShape {
  int heads = 0;
  int kv_heads = 0;
  int dim = 0;
};

// Tokens of one tile: as many as have kPagedTileRows rows together, at least one (whose heads then
// take several tiles).
constexpr int paged_tile_tokens(const PagedShape& s) {
  const int repeat = s.heads / s.kv_heads;
  return repeat >= kPagedTileRows ? 1 : kPagedTileRows / repeat;
}

// Neighbouring query tokens of one sequence, at most paged_tile_tokens of them.
struct PromptTile {
  std::int32_t query = 0;    // row of the first in q and o
  std::int32_t tokens = 0;   // how many
  std::int32_t visible = 0;  // keys that the first one sees; each one after sees one more
  std::int32_t prompt = 0;   // key tiles begin at 0 and again here
  std::int32_t table = 0;    // where the sequence's block table begins in `tables`
};

// o = softmax(q k^T / sqrt(D)) v of each tile's tokens over the keys in the cache that they see, in
// one pass. q, o (rows, heads * D).
cudaError_t paged_prompt_attention(cudaStream_t stream, bf16* o, const bf16* q, PagedCache cache,
                                   PagedShape shape, const PromptTile* tiles,
                                   std::int64_t tile_count, const std::int32_t* tables);

// Device arrays of DecodeRows (cuda/paged_attention.h names them).
struct PagedRows {
  const std::int32_t* positions = nullptr;
  const std::int32_t* active = nullptr;
  const std::int32_t* prompt_length = nullptr;
  const std::int32_t* group_first = nullptr;
  const std::int32_t* group_size = nullptr;
  const std::int32_t* block_tables = nullptr;
  const std::int32_t* query_rows = nullptr;  // null = the row itself
  int rows = 0;
  int max_blocks = 0;
};

// o[row] = softmax(q k^T / sqrt(D)) v over the row's keys in the cache, 0 for a row that is not
// active. Split i of a row: keys [i * split, (i + 1) * split) of the prompt, then likewise of what
// follows the prompt; `split` is a multiple of kPagedKeyTile. For each split, with s = q k^T
// log2(e) / sqrt(D):
//   states[row, head, split] = (m = max s, l = sum of exp2(s - m))
//   parts[row, head, split] = sum of exp2(s - m) v
// and o = (sum of exp2(m_i - m) parts_i) / (sum of exp2(m_i - m) l_i), i in order. counters: one a
// row and tile of heads (rows * kv_heads * ceil(heads / kv_heads / kPagedTileRows)), zero before
// and after. splits >= those of any row; rows <= 65535.
cudaError_t paged_decode_attention(cudaStream_t stream, bf16* o, float* parts, float2* states,
                                   unsigned* counters, const bf16* q, PagedCache cache,
                                   PagedShape shape, PagedRows rows, int split, int splits);

}  // namespace qgrpo::cuda::kernels
