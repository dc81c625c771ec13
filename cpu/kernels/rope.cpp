#include "cpu/kernels/layer.h"
#include "cpu/kernels/row_loops.h"

namespace qgrpo::cpu::QGRPO_ISA {

void rope(float* x, const float* cos, const float* sin, int half, float sign) {
  for (int i = 0; i < half; i += 16) {
    const int rest = half - i;
    const f32x16 c = load_n(cos + i, rest);
    const f32x16 s = load_n(sin + i, rest) * splat(sign);
    const f32x16 a = load_n(x + i, rest);
    const f32x16 b = load_n(x + half + i, rest);
    store_n(x + i, a * c - b * s, rest);
    store_n(x + half + i, b * c + a * s, rest);
  }
}

}  // namespace qgrpo::cpu::QGRPO_ISA
