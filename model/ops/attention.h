#pragma once

#include <cstdint>
#include <span>

#include "model/ops/batch.h"

// What LayerOps' attention over segments takes.
namespace qgrpo {

struct AttentionShape {
  std::int32_t heads = 0;     // NH query heads
  std::int32_t kv_heads = 0;  // NKV; NH is a multiple of it
  std::int32_t head_dim = 0;  // D
  // The softmax scale is 1 / sqrt(D).
};

// The online softmax goes through the keys in blocks of this many, counted from the prompt's start
// and anew from its end, in the rollout and in training alike: that is what makes the two bit-equal
// on the CPU.
inline constexpr int kAttentionKeyBlock = 64;

// The batch's tokens. Throws Error naming `op` unless the segments cover 0 .. tokens in order, and
// a parent comes before its children and has none itself.
std::int64_t require_segments(const char* op, std::span<const Segment> segments);

}  // namespace qgrpo
