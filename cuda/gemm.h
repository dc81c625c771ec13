#pragma once

#include <memory>

#include "cuda/device/device.h"
#include "cuda/kernels/types.h"

namespace qgrpo::cuda {

// Matrix products of many rows by cuBLASLt, the one place that knows it: bf16 operands, float32
// sums. The library is opened when the first object is made, so a program that computes on the CPU
// does not load it.
//
// The algorithm of a shape (layout, N, K, type of y) is asked for once, for 1024 rows, without
// split-K reductions, and then used for any number of rows that cuBLASLt accepts it for
// (cublasLtMatmulAlgoCheck): a row's sums run in one order, whatever the other rows. For a number of
// rows that it does not suit, one is asked for.
class Gemm {
 public:
  // Throws Error where the library cannot be opened.
  explicit Gemm(Device& device);
  ~Gemm();

  // y (rows, n) (=|+=) x (rows, k) w (n, k)^T. y is f32 or bf16 (rounded once), `type` says which.
  // Error where cuBLASLt has no algorithm for the shape.
  void run(void* y, DType type, const kernels::bf16* x, const kernels::bf16* w, std::int64_t rows,
           std::int64_t n, std::int64_t k, bool accumulate = false);

  // y = added + x w^T with one rounding; added (rows, n) of y's type, may be y; null: as run.
  void run_added(void* y, DType type, const void* added, const kernels::bf16* x,
                 const kernels::bf16* w, std::int64_t rows, std::int64_t n, std::int64_t k);

  // y (rows, n) (=|+=) x (rows, k) w (k, n), w as stored: dx = dy W. As run otherwise. x_stride:
  // elements from one row of x to the next, 0 = k.
  void run_nn(void* y, DType type, const kernels::bf16* x, const kernels::bf16* w,
              std::int64_t rows, std::int64_t n, std::int64_t k, bool accumulate = false,
              std::int64_t x_stride = 0);
  // y (m, n) f32 (=|+=) a (k, m)^T b (k, n): a weight's gradient, where k are the rows of the
  // batch. One algorithm for any k; without split-K each sum runs over k in order of its tiles.
  // a_stride: as x_stride, 0 = m.
  void run_tn(float* y, const kernels::bf16* a, const kernels::bf16* b, std::int64_t m,
              std::int64_t n, std::int64_t k, bool accumulate = false, std::int64_t a_stride = 0);

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace qgrpo::cuda
