#pragma once

#include "cuda/kernels/common/pack.cuh"
#include "cuda/kernels/nf4.h"

// Device side of NF4: the table of the codes and a block's scale. Shared by the
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

// absmax' of block b: two roundings, as on the host (a fused multiply-add would round once).
__device__ inline float block_scale(const Nf4View& w, std::int64_t b) {
  return __fadd_rn(__fmul_rn(w.map[w.absmax[b]], w.nested[b / 256]), w.offset);
}

// The codes, one copy a lane: code c of a lane lies at byte 256 c + 4 lane, which __byte_perm makes
// in one instruction; a warp's look-ups touch 32 banks whatever the codes. The other half of each
// line of 64 holds the dynamic map.
struct Nf4Table {
  float value[16][2][kWarp];

  template <int threads>
  __device__ void fill(const float* map) {
    static_assert(threads % kWarp == 0 && 256 % threads == 0, "whole warps, no remainder");
#pragma unroll
    for (int i = 0; i < 16 * kWarp / threads; ++i) {
      const int c = static_cast<int>(threadIdx.x) / kWarp + i * (threads / kWarp);
      value[c][0][threadIdx.x % kWarp] = kCode[c];
    }
#pragma unroll
    for (int i = 0; i < 256 / threads; ++i) {
      const int q = static_cast<int>(threadIdx.x) + i * threads;
      value[q / kWarp][1][q % kWarp] = map[q];
    }
  }
  __device__ float map(unsigned q) const {
    return value[q / kWarp][1][q % kWarp];
  }
  // Of the code in byte `b` of `codes`, whose bytes are below 16.
  template <int b>
  __device__ float code(unsigned codes, unsigned lane_offset) const {
    const unsigned at = __byte_perm(codes, lane_offset, 0x5504 | b << 4);
    return *reinterpret_cast<const float*>(reinterpret_cast<const char*>(value) + at);
  }
};

// Eight weights of a word (first of a byte in its high half), as four bf16 pairs.
__device__ inline void dequantize_word(unsigned (&pairs)[4], const Nf4Table& table, unsigned word,
                                       float scale, unsigned lane_offset) {
  const unsigned first = word >> 4 & 0x0f0f0f0fu;
  const unsigned second = word & 0x0f0f0f0fu;
  pairs[0] = pack_bf16(table.code<0>(first, lane_offset) * scale,
                       table.code<0>(second, lane_offset) * scale);
  pairs[1] = pack_bf16(table.code<1>(first, lane_offset) * scale,
                       table.code<1>(second, lane_offset) * scale);
  pairs[2] = pack_bf16(table.code<2>(first, lane_offset) * scale,
                       table.code<2>(second, lane_offset) * scale);
  pairs[3] = pack_bf16(table.code<3>(first, lane_offset) * scale,
                       table.code<3>(second, lane_offset) * scale);
}

}  // namespace qgrpo::cuda::kernels
