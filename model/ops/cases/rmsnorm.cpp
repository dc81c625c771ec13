#include "model/ops/cases/cases.h"

namespace qgrpo::cases {

// Widths below, at and beyond one vector of the CPU (16), four of them, a warp of the device (8
// elements a lane: 256), and a task of the thread pool (16384 elements).
const std::vector<RowCase>& rmsnorm() {
  static const std::vector<RowCase> cases = {
      {"no rows", Kind::tiny, 0, 64},
      {"one element", Kind::tiny, 1, 1},
      {"one vector of the device", Kind::edge, 1, 8},
      {"below a vector", Kind::odd, 3, 5},
      {"one element below a vector", Kind::edge, 2, 15},
      {"one vector", Kind::edge, 7, 16},
      {"a vector and an element", Kind::edge, 5, 17},
      {"one element below four vectors", Kind::edge, 4, 63},
      {"four vectors", Kind::edge, 3, 64},
      {"four vectors, more rows than a block", Kind::edge, 7, 64},
      {"four vectors and an element", Kind::edge, 9, 65},
      {"no multiple of 8", Kind::odd, 11, 130},
      {"a multiple of 32", Kind::edge, 9, 160},
      {"Qwen2.5-0.5B", Kind::real, 2, 896},
      {"Qwen2.5-0.5B, 37 rows", Kind::real, 37, 896},
      {"Qwen2.5-3B", Kind::real, 5, 2048},
      {"beyond a task of the thread pool", Kind::edge, 1, 0x4001},
      {"sums over 200 rows", Kind::edge, 200, 48},
      {"sums over 129 rows of an odd width", Kind::odd, 129, 13},
      {"sums over 300 rows", Kind::edge, 300, 96},
      // Below, at and above 64 rows of a partial sum.
      {"sums over 63 rows", Kind::edge, 63, 16},
      {"sums over 64 rows", Kind::edge, 64, 16},
      {"sums over 65 rows", Kind::edge, 65, 16},
      // The CPU's tasks: 128 columns of a sum, 16384 elements of rows.
      {"127 columns", Kind::edge, 3, 127},
      {"128 columns", Kind::edge, 3, 128},
      {"129 columns", Kind::edge, 3, 129},
      {"a row less than a task", Kind::edge, 255, 64},
      {"a task of rows", Kind::edge, 256, 64},
      {"a row more than a task", Kind::edge, 257, 64},
      // The columns of a block of the device.
      {"a block's columns but 8", Kind::edge, 2, 1016},
      {"a block's columns", Kind::edge, 2, 1024},
      {"a block's columns and 8", Kind::edge, 2, 1032},
  };
  return cases;
}

Work rmsnorm_forward_work(const RowCase& c, int activation) {
  // x is read, y written; the weight and rstd.
  return {0.0, static_cast<double>(2 * activation * c.rows * c.width + 4 * c.width + 4 * c.rows)};
}

Work rmsnorm_backward_work(const RowCase& c, int activation) {
  // x, dy and dx are read, dx is written.
  return {0.0, static_cast<double>(4 * activation * c.rows * c.width + 4 * c.width + 4 * c.rows)};
}

}  // namespace qgrpo::cases
