#pragma once

#include <span>

#include "cuda/gemm.h"
#include "cuda/weight.h"

namespace qgrpo::cuda {

// LayerOps::linear_forward. All factors and sums:
//   t = bf16(scale * x bf16(A)^T),  y = bf16([y +] x W^T + bias + t bf16(B)^T)
// with the sums over k and r in float32 and no rounding between the terms. Up to kNf4LinearRows
// rows of an NF4 weight whose K is a multiple of 32 take the fused kernel; all else dequantizes
// once for all rows and uses Gemm. The two differ by the rounding of float32 sums.
void linear_forward(Device& device, Gemm& gemm, TensorView y, ConstTensorView x,
                    const Linear& linear, std::span<const AdapterRun> runs, bool accumulate);

// Most scratch that linear_forward takes for a weight of up to n x k elements and adapters of up to
// `rank`.
std::size_t linear_workspace_bytes(std::int64_t tokens, std::int64_t n, std::int64_t k,
                                   std::int64_t rank);

}  // namespace qgrpo::cuda
