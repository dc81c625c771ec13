#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "model/ops/attention.h"

// What attention over segments takes of scratch, and how its backward splits work: host code alone.
namespace qgrpo::cuda {

inline constexpr std::int64_t kKeyTileKeys = 64;  // kernels::kKeyTile

// A prompt's keys are seen by all of its completions: one key tile then has many times the queries
// of another. Its queries are split into parts of at least kPartRows (query, head) rows, at most
// kMaxParts, whose float32 sums are added in their order. Both depend on the prompt and its
// completions alone, so the gradient's bits do not depend on the device or the rest of the batch.
inline constexpr std::int64_t kPartRows = 2048;
inline constexpr std::int64_t kMaxParts = 8;

// The fewest queries of a part.
constexpr std::int64_t attention_part_tokens(const AttentionShape& shape) {
  const std::int64_t group = shape.heads / shape.kv_heads;
  return std::max<std::int64_t>(kPartRows / group, kKeyTileKeys);
}
// The parts of a key tile that `queries` may see; 1 = not split.
constexpr std::int64_t attention_parts(std::int64_t queries, const AttentionShape& shape) {
  return std::clamp<std::int64_t>(queries / attention_part_tokens(shape), 1, kMaxParts);
}

// Slots of partial sums that a batch of `tokens` takes at most: a segment of P tokens has up to
// P / 64 + 1 key tiles, and each has at most a part for every attention_part_tokens of its family.
constexpr std::int64_t attention_max_slots(std::int64_t tokens, const AttentionShape& shape) {
  const std::int64_t parts = tokens / attention_part_tokens(shape);
  if (parts < 2) return 0;
  return tokens * std::min(parts, kMaxParts) / kKeyTileKeys + parts + 1;
}

// (lse, delta) of each row, and the partial sums of that many slots.
constexpr std::size_t attention_statistics_bytes(std::int64_t tokens, const AttentionShape& shape) {
  return static_cast<std::size_t>(tokens * shape.heads) * 2 * sizeof(float);
}
constexpr std::size_t attention_partial_bytes(std::int64_t slots, const AttentionShape& shape) {
  return static_cast<std::size_t>(slots * shape.kv_heads * 2 * kKeyTileKeys * shape.head_dim) *
         sizeof(float);
}
// The lists of work on the device (cuda/kernels/attention.h), whose entries have at least one token
// each.
inline constexpr std::size_t kTaskBytes = 20;   // a KeyTask
inline constexpr std::size_t kSplitBytes = 16;  // a KeySum
constexpr std::size_t attention_tiles_bytes(std::int64_t tokens) {
  return static_cast<std::size_t>(tokens) * 20;
}
constexpr std::size_t attention_steps_bytes(std::int64_t tokens) {
  return static_cast<std::size_t>(tokens) * 8;
}
constexpr std::size_t attention_tasks_bytes(std::int64_t tokens, const AttentionShape& shape) {
  return static_cast<std::size_t>(tokens + attention_max_slots(tokens, shape)) * kTaskBytes;
}
constexpr std::size_t attention_split_bytes(std::int64_t tokens, const AttentionShape& shape) {
  return static_cast<std::size_t>(attention_max_slots(tokens, shape) / 2) * kSplitBytes;
}

}  // namespace qgrpo::cuda
