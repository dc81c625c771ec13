#include "cpu/kernels/layer.h"
#include "cpu/kernels/row_loops.h"

namespace qgrpo::cpu::QGRPO_ISA {

void swiglu_forward(float* y, const float* gate, const float* up, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += 16) {
    const f32x16 g = load_n(gate + i, n - i);
    const f32x16 silu = g / (splat(1.0f) + exp(zero16() - g));
    store_n(y + i, silu * load_n(up + i, n - i), n - i);
  }
}

void swiglu_backward(float* dgate, float* dup, const float* dy, const float* gate, const float* up,
                     std::int64_t n) {
  const f32x16 one = splat(1.0f);
  for (std::int64_t i = 0; i < n; i += 16) {
    const f32x16 g = load_n(gate + i, n - i);
    const f32x16 u = load_n(up + i, n - i);
    const f32x16 d = load_n(dy + i, n - i);
    const f32x16 sigmoid = one / (one + exp(zero16() - g));
    const f32x16 silu = g * sigmoid;
    store_n(dgate + i, d * u * (sigmoid + silu * (one - sigmoid)), n - i);
    store_n(dup + i, d * silu, n - i);
  }
}

}  // namespace qgrpo::cpu::QGRPO_ISA
