#pragma once

#include "cuda/kernels/types.h"

namespace qgrpo::cuda::kernels {

// Turns the pair (a, b) by (cosine, sine): (a c - b s, b c + a s), each with one product rounded
// and one fused, so that every kernel that turns pairs has the same bits.
__device__ inline float2 turned(float a, float b, float cosine, float sine) {
  return {__fmaf_rn(a, cosine, -__fmul_rn(b, sine)), __fmaf_rn(b, cosine, __fmul_rn(a, sine))};
}

}  // namespace qgrpo::cuda::kernels
