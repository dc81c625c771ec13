#pragma once

#include <cstdint>
#include <limits>

#include "model/ops/memory.h"

// The sizes of a Generator, from what it is to run.
namespace qgrpo::engine {

inline constexpr std::int32_t kBlockSize = 16;  // tokens a KV block
inline constexpr std::int32_t kWindow = 16;     // tokens a decode window
// Slots of the cache are numbered in 32 bits.
inline constexpr std::int64_t kMostBlocks = std::numeric_limits<std::int32_t>::max() / kBlockSize;

// Sizes a Generator is made for.
struct GeneratorCapacity {
  std::int32_t block_size = kBlockSize;  // tokens a KV block
  std::int32_t num_blocks = 0;           // KV blocks
  std::int32_t max_sequences = 64;       // completions running at once
  std::int32_t max_tokens = 256;  // rows a step (at least max_sequences); long prompts go in chunks
  // Tokens that are drawn between two looks of the host, on a backend with DecodeOps; 1: each is
  // there as soon as it is drawn. The tokens are the same.
  std::int32_t window = kWindow;
};

// What a Generator is to run at once.
struct GeneratorLoad {
  std::int64_t sequences = 1;  // completions
  std::int64_t samples = 1;    // completions of each prompt
  // KV blocks of kBlockSize tokens that the largest group takes: blocks_of_group of a known prompt,
  // most_blocks_of_group of a longest one.
  std::int64_t group_blocks = 0;
  // The cache may have so many; where groups take more, fewer of them run at once, but always one.
  std::int64_t affordable_blocks = kMostBlocks;
  std::int32_t window = kWindow;  // GeneratorCapacity::window

  // KV blocks of the cache for all of it.
  std::int64_t num_blocks() const;
};

// Throws Error where the cache would have more than kMostBlocks.
GeneratorCapacity generator_capacity(const BackendSizes& backend, const GeneratorLoad& load);

// Also the steps of such a Generator. max_context: tokens of the longest prompt + completion.
void include_rollout(WorkspaceShape& shape, const GeneratorCapacity& capacity,
                     std::int64_t max_context);

}  // namespace qgrpo::engine
