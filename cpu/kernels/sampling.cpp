#include <cmath>

#include "cpu/kernels/layer.h"
#include "cpu/kernels/row_loops.h"

namespace qgrpo::cpu::QGRPO_ISA {

float max_finite(const float* x, std::int64_t n, bool* finite) {
  f32x16 top = splat(-INFINITY);
  f32x16 zeros = zero16();  // x * 0 is 0 for finite x and NaN otherwise
  for (std::int64_t i = 0; i < n; i += 16) {
    top = max(top, load_n(x + i, n - i, -INFINITY));
    zeros = fma(load_n(x + i, n - i), zero16(), zeros);
  }
  *finite = reduce_add(zeros) == 0.0f;
  return reduce_max(top);
}

float exp_sum(const float* x, std::int64_t n, float scale, float shift) {
  return fixed_sum(n, [&](std::int64_t i, std::int64_t rest) {
    const f32x16 e = exp(load_n(x + i, rest) * splat(scale) - splat(shift));
    return rest >= 16 ? e : keep_first(e, static_cast<int>(rest), 0.0f);
  });
}

void exp_values(float* out, const float* x, std::int64_t n, float scale, float shift) {
  for (std::int64_t i = 0; i < n; i += 16) {
    store_n(out + i, exp(load_n(x + i, n - i) * splat(scale) - splat(shift)), n - i);
  }
}

}  // namespace qgrpo::cpu::QGRPO_ISA
