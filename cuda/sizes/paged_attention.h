#pragma once

#include <cstddef>
#include <cstdint>

#include "model/ops/attention.h"

// What attention over the paged cache, and RoPE, take of the device's memory. No CUDA header: the
// memory plan asks these functions on a machine without a toolkit.
namespace qgrpo::cuda {

// A decode row's keys are taken in parts of this many positions, counted from the prompt's start
// and anew from its end; each part is one block's work, and the parts are merged in order.
inline constexpr std::int64_t kDecodeSplit = 256;

// The most parts that a context of up to `max_context` keys has, wherever its prompt ends.
constexpr std::int64_t decode_splits(std::int64_t max_context) {
  return (max_context + kDecodeSplit - 1) / kDecodeSplit + 1;
}

// Bytes of Slot::attention_parts: a float32 sum of D values for each row, head and part.
constexpr std::size_t decode_parts_bytes(std::int64_t rows, const AttentionShape& shape,
                                         std::int64_t max_context) {
  return static_cast<std::size_t>(rows * shape.heads * decode_splits(max_context) *
                                  shape.head_dim) *
         sizeof(float);
}

// Bytes of Slot::attention_states: the softmax's maximum and sum of each of those.
constexpr std::size_t decode_states_bytes(std::int64_t rows, const AttentionShape& shape,
                                          std::int64_t max_context) {
  return static_cast<std::size_t>(rows * shape.heads * decode_splits(max_context)) * 2 *
         sizeof(float);
}

// Bytes of Slot::attention_counters: one for each row and tile of kDecodeTileRows heads of a KV
// head.
inline constexpr std::int64_t kDecodeTileRows = 64;
constexpr std::size_t decode_counters_bytes(std::int64_t rows, const AttentionShape& shape) {
  const std::int64_t repeat = shape.heads / shape.kv_heads;
  const std::int64_t tiles = (repeat + kDecodeTileRows - 1) / kDecodeTileRows;
  return static_cast<std::size_t>(rows * shape.kv_heads * tiles) * sizeof(std::uint32_t);
}

// Bytes of Slot::paged_tiles for a step of up to `tokens` prompt rows, of paged_tables for up to
// `sequences` prompt chunks in it, and of paged_rows for up to `sequences` single rows.
constexpr std::size_t paged_tiles_bytes(std::int64_t tokens) {
  return static_cast<std::size_t>(tokens) * 5 * sizeof(std::int32_t);
}
constexpr std::size_t paged_tables_bytes(std::int64_t sequences, std::int64_t max_context,
                                         std::int64_t block_size) {
  const std::int64_t blocks = (max_context + block_size - 1) / block_size;
  return static_cast<std::size_t>(sequences * blocks) * sizeof(std::int32_t);
}
constexpr std::size_t paged_rows_bytes(std::int64_t sequences, std::int64_t max_context,
                                       std::int64_t block_size) {
  return paged_tables_bytes(sequences, max_context, block_size) +
         static_cast<std::size_t>(sequences) * 6 * sizeof(std::int32_t);
}
// Bytes of Slot::rope_positions and of cache_slots, for a batch of `tokens`; of cache_pairs.
constexpr std::size_t token_index_bytes(std::int64_t tokens) {
  return static_cast<std::size_t>(tokens) * sizeof(std::int32_t);
}
constexpr std::size_t cache_pairs_bytes(std::int64_t pairs) {
  return static_cast<std::size_t>(pairs) * 2 * sizeof(std::int32_t);
}

// Rows of the table of RoPE's cosines and sines that has `positions` of them: a power of two, so
// that a text that grows token by token does not make it anew each time.
constexpr std::int64_t rope_table_rows(std::int64_t positions) {
  std::int64_t rows = 64;
  while (rows < positions) rows *= 2;
  return rows;
}

// Bytes of Slot::rope_table: two float32 for each position and pair.
constexpr std::size_t rope_table_bytes(std::int64_t positions, std::int64_t head_dim) {
  return static_cast<std::size_t>(rope_table_rows(positions) * (head_dim / 2)) * 2 * sizeof(float);
}

}  // namespace qgrpo::cuda
