#pragma once

#include <span>

#include "cuda/device/device.h"
#include "cuda/kernels/paged_attention.h"
#include "cuda/rope.h"
#include "cuda/sizes/paged_attention.h"

namespace qgrpo::cuda {

// A decode step's rows as the device knows them: one query token each. The arrays lie in device
// memory and are read when the kernels run, so that a recorded graph sees what they hold then; the
// launches depend on the host's numbers alone.
struct DecodeRows {
  const std::int32_t* positions = nullptr;      // (rows): context = position + 1 keys
  const std::int32_t* active = nullptr;         // (rows): 0 = stopped or padding
  const std::int32_t* prompt_length = nullptr;  // (rows): as PagedSequence
  // (rows): the first row of this row's prompt_group, and how many it has, neighbours; itself and 1
  // where it shares nothing. In a group of several: equal prompt_length, the prompt in the same
  // cache blocks, position + 1 >= prompt_length.
  const std::int32_t* group_first = nullptr;
  const std::int32_t* group_size = nullptr;
  // (rows, max_blocks). A stopped row of a group still names the prompt's blocks; what a row that
  // is no member of a group of active rows names is not read.
  const std::int32_t* block_tables = nullptr;
  // (rows): row i's place in q and o; null = i.
  const std::int32_t* query_rows = nullptr;

  // Known to the host. A row that is not active may hold anything in `positions`.
  std::int64_t rows = 0;
  std::int64_t max_blocks = 0;
  std::int64_t max_context = 0;  // position + 1 of an active row is at most this
  std::int32_t block_size = 0;
};

// RolloutOps::paged_attention of the rows, bit for bit; o of rows that are not active is 0. q, o:
// (at least rows, NH * D) bf16. One launch; takes Slot::attention_parts, attention_states and
// attention_counters, which grow with rows and max_context: to record it into a graph, run it once
// before. D = 16, 32, 64 or 128.
void decode_attention(Device& device, TensorView o, ConstTensorView q, const KvCacheLayer& cache,
                      const AttentionShape& shape, const DecodeRows& rows);

// RolloutOps::rope_kv_write of decode rows, bit for bit: each at its position and that position's
// slot by its block table; rows that are not active are left alone, and query_rows must be null.
// q: (rows, NH * D), k, v: (rows, NKV * D). One launch. `rope`'s table grows with max_context: to
// record it into a graph, run it once before.
void decode_rope_kv_write(Device& device, Rope& rope, const KvCacheLayer& cache, TensorView q,
                          TensorView k, ConstTensorView v, const RopeFrequencies& frequencies,
                          const DecodeRows& rows);

// RolloutOps::paged_attention: prompts' chunks of several rows and decode rows, mixed.
class PagedAttention {
 public:
  // Throws Error when a sequence does not fit the rows or the cache, or the shape is not one of the
  // kernels'.
  void attend(Device& device, TensorView o, ConstTensorView q, const KvCacheLayer& cache,
              std::int32_t block_size, const AttentionShape& shape,
              std::span<const PagedSequence> sequences);

 private:
  DeviceArray<kernels::PromptTile> tiles_{Slot::paged_tiles};
  DeviceArray<std::int32_t> tables_{Slot::paged_tables};
  DeviceArray<std::int32_t> rows_{Slot::paged_rows};
};

}  // namespace qgrpo::cuda
