#pragma once

#include "cuda/kernels/types.h"

namespace qgrpo::cuda::kernels {

// y = bf16([residual +] sum + bias): the end of a product whose sum (rows, width) is kept in
// float32. bias (width) f32 or null; y (rows, width); residual the same or null, may be y.
cudaError_t finish_linear(cudaStream_t stream, bf16* y, const float* sum, const float* bias,
                          const bf16* residual, std::int64_t rows, std::int64_t width);

// sum (width) f32 += the columns' sums of x (rows, width) bf16, the bias's gradient, in the
// order of sum_columns (column_sums.cuh). partials: ceil(rows / 64) * width float32 of scratch.
cudaError_t column_sums(cudaStream_t stream, float* sum, const bf16* x, std::int64_t rows,
                        std::int64_t width, float* partials);

}  // namespace qgrpo::cuda::kernels
