#pragma once

#include <cuda_bf16.h>

#include "cuda/kernels/types.h"

// Device helpers: vectors of bf16 as float32, and sums over a warp in a fixed order.
namespace qgrpo::cuda::kernels {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

// x = p[0..V): one 16-byte access for V = 8 (p aligned to it), one of 4 for V = 2, single values
// for V = 1.
template <int V>
__device__ inline void load(float (&x)[V], const bf16* p) {
  static_assert(V == 1 || V == 2 || V == 8, "one access per vector");
  if constexpr (V == 1) {
    x[0] = __bfloat162float(*p);
  } else if constexpr (V == 2) {
    const float2 pair = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(p));
    x[0] = pair.x;
    x[1] = pair.y;
  } else {
    const uint4 raw = *reinterpret_cast<const uint4*>(p);
    const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {  // a bf16 is the upper half of its float32
      x[2 * i] = __uint_as_float(words[i] << 16);
      x[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
  }
}

// Two float32 rounded to nearest even, `low` in the lower half (the lower address).
__device__ inline unsigned pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const unsigned*>(&pair);
}

// p[0..V) = bf16(x), rounded to nearest even.
template <int V>
__device__ inline void store(bf16* p, const float (&x)[V]) {
  static_assert(V == 1 || V == 2 || V == 8, "one access per vector");
  if constexpr (V == 1) {
    *p = __float2bfloat16_rn(x[0]);
  } else if constexpr (V == 2) {
    *reinterpret_cast<unsigned*>(p) = pack_bf16(x[0], x[1]);
  } else {
    uint4 raw;
    raw.x = pack_bf16(x[0], x[1]);
    raw.y = pack_bf16(x[2], x[3]);
    raw.z = pack_bf16(x[4], x[5]);
    raw.w = pack_bf16(x[6], x[7]);
    *reinterpret_cast<uint4*>(p) = raw;
  }
}

// x = p[0..V), float32; V = 8: p aligned to 16 bytes.
template <int V>
__device__ inline void load(float (&x)[V], const float* p) {
  if constexpr (V == 8) {
    const float4 a = reinterpret_cast<const float4*>(p)[0];
    const float4 b = reinterpret_cast<const float4*>(p)[1];
    x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w;
    x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) x[i] = p[i];
  }
}

// p[0..V) = x, float32; V = 8: p aligned to 16 bytes.
template <int V>
__device__ inline void store(float* p, const float (&x)[V]) {
  if constexpr (V == 8) {
    reinterpret_cast<float4*>(p)[0] = make_float4(x[0], x[1], x[2], x[3]);
    reinterpret_cast<float4*>(p)[1] = make_float4(x[4], x[5], x[6], x[7]);
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) p[i] = x[i];
  }
}

// The sum over the 32 lanes, the same bits in each: a butterfly, so the order is fixed.
__device__ inline float warp_sum(float x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}

}  // namespace qgrpo::cuda::kernels
