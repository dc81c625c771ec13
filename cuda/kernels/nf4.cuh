#pragma once

#include "cuda/kernels/nf4.h"
#include "cuda/kernels/pack.cuh"

// Device side of NF4: the table from a byte to two codes and a block's scale. Shared by the
// dequantization and the fused product, so that a weight cannot have two values.
namespace qgrpo::cuda::kernels {

__device__ __constant__ const float kCode[16] = {-1.0f,
                                                 -0.6961928009986877f,
                                                 -0.5250730514526367f,
                                                 -0.39491748809814453f,
                                                 -0.28444138169288635f,
                                                 -0.18477343022823334f,
                                                 -0.09105003625154495f,
                                                 0.0f,
                                                 0.07958029955625534f,
                                                 0.16093020141124725f,
                                                 0.24611230194568634f,
                                                 0.33791524171829224f,
                                                 0.44070982933044434f,
                                                 0.5626170039176941f,
                                                 0.7229568362236023f,
                                                 1.0f};

// table[byte] = (code of its high half, of its low half). Call with 256 threads; the caller
// synchronizes.
__device__ inline void fill_code_table(float2* table) {
  const unsigned byte = threadIdx.x;
  table[byte] = make_float2(kCode[byte >> 4], kCode[byte & 15]);
}

// absmax' of block b: two roundings, as on the host (a fused multiply-add would round once).
__device__ inline float block_scale(const Nf4View& w, std::int64_t b) {
  return __fadd_rn(__fmul_rn(w.map[w.absmax[b]], w.nested[b / 256]), w.offset);
}

// The two weights of a byte as bf16, the first in the lower half.
__device__ inline unsigned dequantize_byte(const float2* table, unsigned byte, float scale) {
  const float2 code = table[byte];
  return pack_bf16(code.x * scale, code.y * scale);
}

}  // namespace qgrpo::cuda::kernels
