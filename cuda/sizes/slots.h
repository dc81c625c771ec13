#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

// The operators' scratch by name. Host-only: the memory plan sizes the slots without a toolkit
// (cuda/sizes/sizes.h), the device hands them out (Device::scratch).
//
// A slot belongs to the operator that is named. Its contents last until it is taken again; an
// operator takes each slot at most once.
#define QGRPO_CUDA_SLOTS(X)                                         \
  X(weight, "a dequantized matrix")                                 \
  X(tokens, "embedding: tokens")                                    \
  X(gather, "rows to gather")                                       \
  X(rope_table, "RoPE's cosines and sines")                         \
  X(attention_parts, "decode attention: sums of its parts")         \
  X(attention_states, "decode attention: maximum and sum of each")  \
  X(attention_counters, "decode attention: parts that are done")    \
  X(paged_tiles, "paged attention: its query tiles")                \
  X(paged_tables, "paged attention: their blocks")                  \
  X(paged_rows, "paged attention: its decode rows")                 \
  X(rope_positions, "RoPE: positions")                              \
  X(cache_slots, "cache: slots to write")                           \
  X(cache_positions, "cache: positions")                            \
  X(cache_pairs, "cache: blocks to copy")                           \
  X(decode_state, "decode window: its rows")                        \
  X(decode_seen, "decode window: ids that a penalty lowers")        \
  X(gemm, "cuBLASLt's workspace")                                   \
  X(sums, "linear: float32 sums before their rounding")             \
  X(low_a, "linear: LoRA's A as bf16")                              \
  X(low_b, "linear: LoRA's B as bf16")                              \
  X(low_sums, "linear: x A^T in float32")                           \
  X(low, "linear: its rounding")                                    \
  X(low_x, "linear backward: scale x A^T as bf16")                  \
  X(split_counters, "few rows: blocks that are done")               \
  X(split_sums, "few rows: partial sums")                           \
  X(partials, "partial sums over tokens")                           \
  X(squares, "sums of squares")                                     \
  X(squares_table, "their tensors")                                 \
  X(scatter_rows, "distinct rows of a scatter")                     \
  X(scatter_first, "where their values begin")                      \
  X(scatter_index, "their values, sorted")                          \
  X(hidden, "head: gathered rows")                                  \
  X(logits, "head: a chunk's logits")                               \
  X(attention_tiles, "attention: its query tiles")                  \
  X(attention_steps, "attention backward: its query steps")         \
  X(attention_tasks, "attention backward: its key tiles")           \
  X(attention_split, "attention backward: those with partial sums") \
  X(attention_statistics, "attention backward: log-sum-exp, delta") \
  X(attention_partial, "attention backward: partial dK, dV")        \
  X(head_gradient, "head: gradient of a chunk's rows")              \
  X(head_lists, "head: rows, entries, targets")                     \
  X(head_terms, "head: one an entry, of the objective")             \
  X(head_tokens, "head: the objective of each entry")               \
  X(head_targets, "head: gradient at each target")                  \
  X(sampling_gather, "sampling: hidden rows")                       \
  X(sampling_parts, "sampling: statistics of parts of rows")        \
  X(sampling_state, "sampling: requests and tokens")                \
  X(sampling_seen, "sampling: ids that are penalized")              \
  X(results, "head: one an entry")

namespace qgrpo::cuda {

enum class Slot : std::uint8_t {
#define QGRPO_SLOT_VALUE(name, meaning) name,
  QGRPO_CUDA_SLOTS(QGRPO_SLOT_VALUE)
#undef QGRPO_SLOT_VALUE
      count,
};
inline constexpr std::size_t kSlots = static_cast<std::size_t>(Slot::count);

struct SlotText {
  std::string_view name;
  std::string_view meaning;
};
inline constexpr SlotText kSlotTexts[] = {
#define QGRPO_SLOT_TEXT(name, meaning) {#name, meaning},
    QGRPO_CUDA_SLOTS(QGRPO_SLOT_TEXT)
#undef QGRPO_SLOT_TEXT
};

// Of the slot gemm.
inline constexpr std::size_t kGemmWorkspaceBytes = std::size_t{32} << 20;

// Bytes of each slot, by Slot.
using SlotBytes = std::array<std::size_t, kSlots>;

// What every part of a larger allocation begins at a multiple of.
inline constexpr std::size_t kMemoryAlignment = 256;
constexpr std::size_t aligned_bytes(std::size_t bytes) {
  return (bytes + kMemoryAlignment - 1) / kMemoryAlignment * kMemoryAlignment;
}
// Of the one allocation that has them all.
constexpr std::size_t planned_bytes(const SlotBytes& slots) {
  std::size_t total = 0;
  for (const std::size_t bytes : slots) total += aligned_bytes(bytes);
  return total;
}

}  // namespace qgrpo::cuda
