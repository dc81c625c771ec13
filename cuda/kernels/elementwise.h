#pragma once

#include "cuda/kernels/types.h"

namespace qgrpo::cuda::kernels {

// y += x, rounded once; n elements.
cudaError_t add(cudaStream_t stream, bf16* y, const bf16* x, std::int64_t n);
cudaError_t add(cudaStream_t stream, float* y, const float* x, std::int64_t n);

// y = bf16(scale * x), n elements.
cudaError_t to_bf16(cudaStream_t stream, bf16* y, const float* x, float scale, std::int64_t n);

}  // namespace qgrpo::cuda::kernels
