#pragma once

#include "cpu/op_support.h"

namespace qgrpo::test {

// A case's segments, and random q, k, v and gradients for them.
struct AttentionInputs {
  AttentionShape shape;
  std::vector<Segment> segments;
  std::int64_t tokens = 0;
  std::int64_t q_width = 0;
  std::int64_t kv_width = 0;
  std::vector<float> q, k, v, d_o;

  explicit AttentionInputs(const cases::AttentionCase& c, std::uint32_t seed = 1)
      : shape(c.shape), segments(cases::make_segments(c)) {
    for (const Segment& s : segments) tokens += s.length;
    q_width = shape.heads * shape.head_dim;
    kv_width = shape.kv_heads * shape.head_dim;
    const auto nq = static_cast<std::size_t>(tokens * q_width);
    const auto nkv = static_cast<std::size_t>(tokens * kv_width);
    // Scores with a spread of a few units, so that the softmax is neither flat nor one key alone.
    q = random_values(nq, seed, 2.0);
    k = random_values(nkv, seed + 1);
    v = random_values(nkv, seed + 2);
    d_o = random_values(nq, seed + 3);
  }
  ConstTensorView qv(const std::vector<float>& x) const { return view(x, {tokens, q_width}); }
  ConstTensorView kv(const std::vector<float>& x) const { return view(x, {tokens, kv_width}); }
};

}  // namespace qgrpo::test
