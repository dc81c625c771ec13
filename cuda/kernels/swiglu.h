#pragma once

#include "cuda/kernels/types.h"

namespace qgrpo::cuda::kernels {

// y = silu(gate) up, silu(z) = z / (1 + exp(-z)); y may be gate.
cudaError_t swiglu_forward(cudaStream_t stream, bf16* y, const bf16* gate, const bf16* up,
                           std::int64_t n);
// With s = sigmoid(gate): dgate = dy up s (1 + gate (1 - s)), dup = dy gate s. dgate may be gate or
// dy, dup may be up.
cudaError_t swiglu_backward(cudaStream_t stream, bf16* dgate, bf16* dup, const bf16* dy,
                            const bf16* gate, const bf16* up, std::int64_t n);

}  // namespace qgrpo::cuda::kernels
