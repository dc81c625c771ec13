#pragma once

// SwiGLU's arithmetic, for the kernels of training and for sampling's, which must have the same bits: each operation
// is rounded by itself or fused where it says so, so that ptxas has nothing to choose. (expf ends in a product, which
// it would fuse with the sum of 1 in one kernel and not in another.)
namespace qgrpo::cuda::kernels {

// 1 + exp(-z)
__device__ inline float one_plus_exp(float z) {
  return __fadd_rn(1.0f, expf(-z));
}

// silu(gate) up
__device__ inline float silu_product(float gate, float up) {
  return __fmul_rn(__fdiv_rn(gate, one_plus_exp(gate)), up);
}

}  // namespace qgrpo::cuda::kernels
