#pragma once

#include "cpu/simd.h"
#include "model/ops/nf4.h"

namespace qgrpo::cpu::QGRPO_ISA {

// Looks the 32 indices of one (panel, k) up in the NF4 code: lo = outputs 0..15 (low nibbles), hi =
// outputs 16..31 (high nibbles).
class Nf4Decoder {
 public:
#if defined(__AVX512F__)
  Nf4Decoder() : code_(_mm512_loadu_ps(kNf4Code.data())) {}
  void decode(const std::uint8_t* bytes, f32x16& lo, f32x16& hi) const {
    const __m512i v =
        _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
    // The permutation reads the low four bits of its index.
    lo = {_mm512_permutexvar_ps(v, code_)};
    hi = {_mm512_permutexvar_ps(_mm512_srli_epi32(v, 4), code_)};
  }

 private:
  __m512 code_;
#else
  Nf4Decoder()
      : low_(_mm256_loadu_ps(kNf4Code.data())), high_(_mm256_loadu_ps(kNf4Code.data() + 8)) {}
  void decode(const std::uint8_t* bytes, f32x16& lo, f32x16& hi) const {
    const __m256i v0 =
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
    const __m256i v1 =
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes + 8)));
    lo = {look_up<28>(v0, v0), look_up<28>(v1, v1)};
    hi = {look_up<24>(_mm256_srli_epi32(v0, 4), v0), look_up<24>(_mm256_srli_epi32(v1, 4), v1)};
  }

 private:
  // The permutation reads three bits; the fourth, brought to the sign, picks the upper half.
  template <int SHIFT>
  __m256 look_up(__m256i index, __m256i v) const {
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(low_, index),
                            _mm256_permutevar8x32_ps(high_, index),
                            _mm256_castsi256_ps(_mm256_slli_epi32(v, SHIFT)));
  }
  __m256 low_, high_;
#endif
};

}  // namespace qgrpo::cpu::QGRPO_ISA
