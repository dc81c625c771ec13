#pragma once

#include <memory>

#include "cuda/device.h"
#include "cuda/kernels/types.h"

namespace qgrpo::cuda {

// Matrix products of many rows by cuBLASLt, the one place that knows it: bf16 operands, float32
// sums. The library is opened when the first object is made, so a program that computes on the CPU
// does not load it.
//
// The algorithm of a shape (N, K, type of y) is asked for once, for 1024 rows, without split-K
// reductions, and then used for any number of rows: a row's sums run in one order, whatever the
// other rows.
class Gemm {
 public:
  explicit Gemm(Device& device);
  ~Gemm();

  // y (rows, n) (=|+=) x (rows, k) w (n, k)^T. y is f32 or bf16 (rounded once), `type` says which.
  // Error where cuBLASLt has no algorithm for the shape.
  void run(void* y, DType type, const kernels::bf16* x, const kernels::bf16* w, std::int64_t rows,
           std::int64_t n, std::int64_t k, bool accumulate = false);

  static constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace qgrpo::cuda
