#pragma once

#include "cuda/kernels/types.h"

namespace qgrpo::cuda::kernels {

// Turns the pairs (i, i + D/2) of each head of x (tokens, heads * D) in place:
//   x_i' = x_i c - x_{i+D/2} s,  x_{i+D/2}' = x_{i+D/2} c + x_i s,
// (c, s) = table[positions[t]][i], s times `sign` (1 forward, -1 backward). table (P, D/2). D is a
// multiple of 4.
cudaError_t rope(cudaStream_t stream, bf16* x, const float2* table, const std::int32_t* positions,
                 std::int64_t tokens, std::int64_t heads, std::int64_t dim, float sign);

}  // namespace qgrpo::cuda::kernels
