#pragma once

#include "cuda/kernels/types.h"

// Sums whose order depends on the sizes alone: not on the launch, nor on the device.
namespace qgrpo::cuda::kernels {

// Rows that a partial sum of column_sums and rmsnorm_dweight covers.
inline constexpr std::int64_t kSumRows = 64;

// sum (width) f32 += the columns' sums of x (rows, width) bf16: the partial sums of 64 rows each,
// in the order of the rows, added in order. partials: ceil(rows / 64) * width float32 of scratch.
cudaError_t column_sums(cudaStream_t stream, float* sum, const bf16* x, std::int64_t rows,
                        std::int64_t width, float* partials);

// dweight (width) f32 += sum over the rows of dy x_hat, x_hat = x rstd, in the same order; dy, x
// (rows, width) bf16, rstd (rows) f32.
cudaError_t rmsnorm_dweight(cudaStream_t stream, float* dweight, const bf16* dy, const bf16* x,
                            const float* rstd, std::int64_t rows, std::int64_t width,
                            float* partials);

// Elements that a partial sum of squares covers.
inline constexpr std::int64_t kSquareChunk = 4096;

// A tensor whose squares are summed; its chunks of 4096 are numbered from `first_chunk`, which is
// where those of the tensors before it end.
struct SquaresTensor {
  const float* x;
  std::int64_t n;
  std::int64_t first_chunk;
};

// sums[i] = sum of the squares of tensors[i], in double, i < count; `chunks` is their number over
// all tensors. A chunk is summed in eight lanes (element i in lane i % 8, in order) that are added
// as a tree, a tensor's chunks in order: the bits of the CPU's sum_of_squares. partials: `chunks`
// doubles of scratch.
cudaError_t squares(cudaStream_t stream, double* sums, const SquaresTensor* tensors, int count,
                    std::int64_t chunks, double* partials);

}  // namespace qgrpo::cuda::kernels
