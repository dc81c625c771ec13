#include "model/ops/cases/cases.h"

namespace qgrpo::cases {

// Sizes around the CPU's vectors (16) and the device's (8 elements a thread, 2048 a block).
const std::vector<RowCase>& swiglu() {
  static const std::vector<RowCase> cases = {
      {"one element", Kind::tiny, 1, 1},
      {"one element below a vector of the device", Kind::edge, 1, 7},
      {"one vector of the device", Kind::edge, 1, 8},
      {"below a vector", Kind::odd, 3, 5},
      {"two rows", Kind::odd, 2, 15},
      {"whole vectors", Kind::edge, 7, 16},
      {"a vector and an element", Kind::edge, 5, 17},
      {"one element below four vectors", Kind::edge, 4, 63},
      {"four vectors", Kind::edge, 3, 64},
      {"four vectors and an element", Kind::edge, 9, 65},
      {"no multiple of 8", Kind::odd, 11, 130},
      {"one vector below a block of the device", Kind::edge, 1, 2040},
      {"a block of the device", Kind::edge, 1, 2048},
      {"a block of the device and an element", Kind::edge, 1, 2049},
      {"a block of the device and a vector", Kind::edge, 1, 2056},
      {"one element below a task of the thread pool", Kind::edge, 1, 0x3fff},
      {"a task of the thread pool", Kind::edge, 1, 0x4000},
      {"Qwen2.5-0.5B", Kind::real, 1, 4864},
      {"many rows", Kind::edge, 37, 896},
      {"beyond a task of the thread pool", Kind::edge, 1, 0x4001},
      {"two tasks", Kind::edge, 300, 96},
  };
  return cases;
}

Work swiglu_forward_work(const RowCase& c, int activation) {
  return {0.0, static_cast<double>(3 * activation * c.rows * c.width)};
}

Work swiglu_backward_work(const RowCase& c, int activation) {
  return {0.0, static_cast<double>(5 * activation * c.rows * c.width)};
}

}  // namespace qgrpo::cases
