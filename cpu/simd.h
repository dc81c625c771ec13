#pragma once

// Sixteen floats: one AVX-512 register, or two AVX2 registers. Kernels are written once against
// this type and compiled once per instruction set (see cpu/sources.cmake); lane i does the same
// operations in the same order in both, so the results are bit-equal. Only files under cpu/kernels
// include this.

// GCC 12's own AVX-512 header reads variables that it declares uninitialised on purpose.
#pragma GCC diagnostic push
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

#include <bit>
#include <cmath>
#include <cstdint>

namespace qgrpo::cpu::QGRPO_ISA {

#if defined(__AVX512F__)

struct f32x16 {
  __m512 v;
};
inline f32x16 zero16() {
  return {_mm512_setzero_ps()};
}
inline f32x16 splat(float x) {
  return {_mm512_set1_ps(x)};
}
inline f32x16 load(const float* p) {
  return {_mm512_loadu_ps(p)};
}
inline void store(float* p, f32x16 a) {
  _mm512_storeu_ps(p, a.v);
}
inline f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
inline f32x16 operator+(f32x16 a, f32x16 b) {
  return {_mm512_add_ps(a.v, b.v)};
}
inline f32x16 operator-(f32x16 a, f32x16 b) {
  return {_mm512_sub_ps(a.v, b.v)};
}
inline f32x16 operator*(f32x16 a, f32x16 b) {
  return {_mm512_mul_ps(a.v, b.v)};
}
inline f32x16 operator/(f32x16 a, f32x16 b) {
  return {_mm512_div_ps(a.v, b.v)};
}
inline f32x16 max(f32x16 a, f32x16 b) {
  return {_mm512_max_ps(a.v, b.v)};
}
inline f32x16 min(f32x16 a, f32x16 b) {
  return {_mm512_min_ps(a.v, b.v)};
}
inline f32x16 round_nearest(f32x16 a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
// a * 2^n for whole n in [-126, 127].
inline f32x16 scale_pow2(f32x16 a, f32x16 n) {
  const __m512i e =
      _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127)), 23);
  return {_mm512_mul_ps(a.v, _mm512_castsi512_ps(e))};
}
// Sixteen bf16 values.
inline f32x16 load_bf16(const std::uint16_t* p) {
  const __m256i h = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16))};
}

#else

struct f32x16 {
  __m256 lo, hi;
};
inline f32x16 zero16() {
  return {_mm256_setzero_ps(), _mm256_setzero_ps()};
}
inline f32x16 splat(float x) {
  return {_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
inline f32x16 load(const float* p) {
  return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
inline void store(float* p, f32x16 a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
inline f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
inline f32x16 operator+(f32x16 a, f32x16 b) {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
inline f32x16 operator-(f32x16 a, f32x16 b) {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
inline f32x16 operator*(f32x16 a, f32x16 b) {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
inline f32x16 operator/(f32x16 a, f32x16 b) {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
inline f32x16 max(f32x16 a, f32x16 b) {
  return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
inline f32x16 min(f32x16 a, f32x16 b) {
  return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}
inline f32x16 round_nearest(f32x16 a) {
  constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(a.lo, mode), _mm256_round_ps(a.hi, mode)};
}
inline __m256 scale_pow2(__m256 a, __m256 n) {
  const __m256i e =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(a, _mm256_castsi256_ps(e));
}
inline f32x16 scale_pow2(f32x16 a, f32x16 n) {
  return {scale_pow2(a.lo, n.lo), scale_pow2(a.hi, n.hi)};
}
inline __m256 widen_bf16(const std::uint16_t* p) {
  const __m128i h = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
inline f32x16 load_bf16(const std::uint16_t* p) {
  return {widen_bf16(p), widen_bf16(p + 8)};
}

#endif

// The first n (1..15) floats of p, the other lanes `fill`; and storing only the first n lanes.
inline f32x16 load_partial(const float* p, int n, float fill = 0.0f) {
  alignas(64) float lanes[16];
  for (int i = 0; i < 16; ++i) lanes[i] = i < n ? p[i] : fill;
  return load(lanes);
}
inline void store_partial(float* p, f32x16 a, int n) {
  alignas(64) float lanes[16];
  store(lanes, a);
  for (int i = 0; i < n; ++i) p[i] = lanes[i];
}

// The first n lanes of a (n <= 0: none, n >= 16: all), the others `fill`.
#if defined(__AVX512F__)
inline f32x16 keep_first(f32x16 a, int n, float fill) {
  const __mmask16 mask = n >= 16 ? 0xffff : n <= 0 ? 0 : static_cast<__mmask16>((1u << n) - 1);
  return {_mm512_mask_blend_ps(mask, _mm512_set1_ps(fill), a.v)};
}
inline __m256 low_half(f32x16 a) {
  return _mm512_castps512_ps256(a.v);
}
inline __m256 high_half(f32x16 a) {
  return _mm512_extractf32x8_ps(a.v, 1);
}
#else
inline f32x16 keep_first(f32x16 a, int n, float fill) {
  const __m256i count = _mm256_set1_epi32(n);
  const __m256i lo = _mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  const __m256i hi = _mm256_cmpgt_epi32(count, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15));
  const __m256 other = _mm256_set1_ps(fill);
  return {_mm256_blendv_ps(other, a.lo, _mm256_castsi256_ps(lo)),
          _mm256_blendv_ps(other, a.hi, _mm256_castsi256_ps(hi))};
}
inline __m256 low_half(f32x16 a) {
  return a.lo;
}
inline __m256 high_half(f32x16 a) {
  return a.hi;
}
#endif

// Sum and maximum of the lanes as a fixed tree: 16 -> 8 -> 4 -> 2 -> 1, lane i with lane i + half.
inline float reduce_add(f32x16 a) {
  const __m256 b = _mm256_add_ps(low_half(a), high_half(a));
  const __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
}
inline float reduce_max(f32x16 a) {
  const __m256 b = _mm256_max_ps(low_half(a), high_half(a));
  const __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  const __m128 d = _mm_max_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d)));
}

// e^x, relative error below 2 ulp; x below -87 is taken as -87 (about 1.6e-38, never 0: a masked
// lane must be set to 0 afterwards), x above 88 as 88; NaN stays NaN (max and min return their
// second operand then). Cody-Waite reduction by ln 2 in two parts, degree-6 polynomial on
// [-ln2/2, ln2/2].
inline f32x16 exp(f32x16 x) {
  x = min(splat(88.0f), max(splat(-87.0f), x));
  const f32x16 n = round_nearest(x * splat(1.44269504088896341f));
  f32x16 r = fma(n, splat(-0.693359375f), x);
  r = fma(n, splat(2.12194440e-4f), r);
  f32x16 p = splat(1.9875691500e-4f);
  p = fma(p, r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  p = fma(p, r * r, r) + splat(1.0f);
  return scale_pow2(p, n);
}
// The same function of one value, with the same bits.
inline float exp1(float x) {
  alignas(64) float lanes[16];
  store(lanes, exp(splat(x)));
  return lanes[0];
}

}  // namespace qgrpo::cpu::QGRPO_ISA
