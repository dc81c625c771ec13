#include "cpu/kernels/layer.h"
#include "cpu/kernels/row_loops.h"

namespace qgrpo::cpu::QGRPO_ISA {

void add(float* y, const float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += 16) {
    store_n(y + i, load_n(y + i, n - i) + load_n(x + i, n - i), n - i);
  }
}

}  // namespace qgrpo::cpu::QGRPO_ISA
