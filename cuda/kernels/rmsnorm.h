#pragma once

#include "cuda/kernels/types.h"

namespace qgrpo::cuda::kernels {

// y = x rstd weight, rstd = 1 / sqrt(mean(x^2) + eps). x, y (rows, width) bf16; weight (width),
// rstd (rows) f32, =. float32 inside, y rounded once.
cudaError_t rmsnorm_forward(cudaStream_t stream, bf16* y, float* rstd, const bf16* x,
                            const float* weight, std::int64_t rows, std::int64_t width, float eps);

// dx += rstd (w dy - x_hat mean(w dy x_hat)), x_hat = x rstd; dx bf16, rounded once after the sum.
cudaError_t rmsnorm_backward(cudaStream_t stream, bf16* dx, const bf16* dy, const bf16* x,
                             const float* weight, const float* rstd, std::int64_t rows,
                             std::int64_t width);

// dweight (width) f32 += sum over the rows of dy x_hat, x_hat = x rstd, in the order of
// sum_columns (column_sums.cuh); dy, x
// (rows, width) bf16, rstd (rows) f32. partials: ceil(rows / 64) * width float32 of scratch.
cudaError_t rmsnorm_dweight(cudaStream_t stream, float* dweight, const bf16* dy, const bf16* x,
                            const float* rstd, std::int64_t rows, std::int64_t width,
                            float* partials);

}  // namespace qgrpo::cuda::kernels
