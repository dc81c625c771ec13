#include <cmath>

#include "cpu/kernels/layer.h"
#include "cpu/kernels/row_loops.h"

namespace qgrpo::cpu::QGRPO_ISA {

void rmsnorm_forward(float* y, float* rstd, const float* x, const float* weight, std::int64_t n,
                     float eps) {
  const float mean = dot(x, x, n) / static_cast<float>(n);
  const float r = 1.0f / std::sqrt(mean + eps);
  *rstd = r;
  for (std::int64_t i = 0; i < n; i += 16) {
    store_n(y + i, load_n(x + i, n - i) * splat(r) * load_n(weight + i, n - i), n - i);
  }
}

void rmsnorm_backward(float* dx, const float* dy, const float* x, const float* weight, float rstd,
                      std::int64_t n) {
  const f32x16 r = splat(rstd);
  const float sum = fixed_sum(n, [&](std::int64_t i, std::int64_t rest) {
    return load_n(weight + i, rest) * load_n(dy + i, rest) * (load_n(x + i, rest) * r);
  });
  const f32x16 mean = splat(sum / static_cast<float>(n));
  for (std::int64_t i = 0; i < n; i += 16) {
    const f32x16 x_hat = load_n(x + i, n - i) * r;
    const f32x16 wdy = load_n(weight + i, n - i) * load_n(dy + i, n - i);
    store_n(dx + i, load_n(dx + i, n - i) + r * (wdy - x_hat * mean), n - i);
  }
}

void rmsnorm_dweight(float* dweight, const float* dy, const float* x, float rstd, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += 16) {
    const f32x16 x_hat = load_n(x + i, n - i) * splat(rstd);
    store_n(dweight + i, fma(load_n(dy + i, n - i), x_hat, load_n(dweight + i, n - i)), n - i);
  }
}

}  // namespace qgrpo::cpu::QGRPO_ISA
