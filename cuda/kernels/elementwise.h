#pragma once

#include "cuda/kernels/types.h"

namespace qgrpo::cuda::kernels {

// y += x, rounded once; n elements.
cudaError_t add(cudaStream_t stream, bf16* y, const bf16* x, std::int64_t n);
cudaError_t add(cudaStream_t stream, float* y, const float* x, std::int64_t n);

// y = bf16(scale * x), n elements.
cudaError_t to_bf16(cudaStream_t stream, bf16* y, const float* x, float scale, std::int64_t n);

// y = silu(gate) up, silu(z) = z / (1 + exp(-z)); y may be gate.
cudaError_t swiglu_forward(cudaStream_t stream, bf16* y, const bf16* gate, const bf16* up,
                           std::int64_t n);
// With s = sigmoid(gate): dgate = dy up s (1 + gate (1 - s)), dup = dy gate s. dgate may be gate or
// dy, dup may be up.
cudaError_t swiglu_backward(cudaStream_t stream, bf16* dgate, bf16* dup, const bf16* dy,
                            const bf16* gate, const bf16* up, std::int64_t n);

// y = bf16([residual +] sum + bias): the end of a product whose sum (rows, width) is kept in
// float32. bias (width) f32 or null; y (rows, width); residual the same or null, may be y.
cudaError_t finish_linear(cudaStream_t stream, bf16* y, const float* sum, const float* bias,
                          const bf16* residual, std::int64_t rows, std::int64_t width);

}  // namespace qgrpo::cuda::kernels
