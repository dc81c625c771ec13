#pragma once

#include "cuda/kernels/types.h"

// What the host tells the attention kernels over segments (cuda/kernels/attention.h).
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

// What the launchers of attention.h share. q, o, d_o, dq: (T, heads * D); k, v, dk, dv: (T,
// kv_heads * D) bf16. D = 16, 32, 64 or 128; anything else is cudaErrorInvalidValue.
struct AttentionSizes {
  std::int64_t tokens = 0;
  int heads = 0;
  int kv_heads = 0;
  int dim = 0;
};

}  // namespace qgrpo::cuda::kernels
