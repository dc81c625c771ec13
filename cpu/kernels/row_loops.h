#pragma once

#include "cpu/simd.h"

namespace qgrpo::cpu::QGRPO_ISA {

// What a loop over rows needs to treat the last, shorter vector like the others: the same
// operations on lanes padded with `fill`, of which only the first n are stored.
inline f32x16 load_n(const float* p, std::int64_t n, float fill = 0.0f) {
  return n >= 16 ? load(p) : load_partial(p, static_cast<int>(n), fill);
}
inline void store_n(float* p, f32x16 a, std::int64_t n) {
  if (n >= 16) {
    store(p, a);
  } else {
    store_partial(p, a, static_cast<int>(n));
  }
}

// Sum over i of term(i, n - i): four accumulators take vectors in turn, ((0+1) + (2+3)), then the
// tree of reduce_add. `term` must give 0 in the lanes beyond n.
template <typename Term>
inline float fixed_sum(std::int64_t n, Term&& term) {
  f32x16 acc[4] = {zero16(), zero16(), zero16(), zero16()};
  std::int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    for (int a = 0; a < 4; ++a) acc[a] = acc[a] + term(i + 16 * a, std::int64_t{16});
  }
  for (int a = 0; i < n; i += 16, ++a) acc[a] = acc[a] + term(i, n - i);
  return reduce_add((acc[0] + acc[1]) + (acc[2] + acc[3]));
}

// sum_i a_i b_i.
inline float dot(const float* a, const float* b, std::int64_t n) {
  return fixed_sum(n, [&](std::int64_t i, std::int64_t rest) {
    return load_n(a + i, rest) * load_n(b + i, rest);
  });
}

}  // namespace qgrpo::cpu::QGRPO_ISA
