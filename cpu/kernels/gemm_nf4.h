#pragma once

#include <bit>

#include "cpu/kernels.h"
#include "cpu/simd.h"
#include "model/ops/nf4.h"

namespace qgrpo::cpu::QGRPO_ISA {

// Looks the 32 indices of one (panel, k) up in the NF4 code. The values come in the decoder's own
// order, whatever is quickest: what is to meet them is brought there by from_outputs() once, and what
// came of them is brought back by to_outputs().
class Nf4Decoder {
 public:
#if defined(__AVX512F__)
  Nf4Decoder() : code_(_mm512_loadu_ps(kNf4Code.data())) {}
  // lo = outputs 0..15 (low nibbles), hi = outputs 16..31 (high nibbles).
  void decode(const std::uint8_t* bytes, f32x16& lo, f32x16& hi) const {
    const __m512i v =
        _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
    // The permutation reads the low four bits of its index.
    lo = {_mm512_permutexvar_ps(v, code_)};
    hi = {_mm512_permutexvar_ps(_mm512_srli_epi32(v, 4), code_)};
  }
  static void from_outputs(f32x16&, f32x16&) {}
  static void to_outputs(f32x16&, f32x16&) {}

 private:
  __m512 code_;
#else
  // Each of a value's four bytes by a look-up of its own, in a register half of low and one of high
  // nibbles; interleaved they are values 4 q .. 4 q + 3 of each half: outputs 4 q and 16 + 4 q.
  Nf4Decoder() {
    alignas(16) std::uint8_t planes[4][16];
    for (std::size_t i = 0; i < 16; ++i) {
      const auto bits = std::bit_cast<std::uint32_t>(kNf4Code[i]);
      for (std::size_t b = 0; b < 4; ++b) planes[b][i] = static_cast<std::uint8_t>(bits >> 8 * b);
    }
    for (std::size_t b = 0; b < 4; ++b) {
      plane_[b] =
          _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(planes[b])));
    }
  }
  void decode(const std::uint8_t* bytes, f32x16& lo, f32x16& hi) const {
    const __m256i both =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
    const __m256i index = _mm256_and_si256(
        _mm256_srlv_epi32(both, _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4)), _mm256_set1_epi8(15));
    const __m256i b0 = _mm256_shuffle_epi8(plane_[0], index);
    const __m256i b1 = _mm256_shuffle_epi8(plane_[1], index);
    const __m256i b2 = _mm256_shuffle_epi8(plane_[2], index);
    const __m256i b3 = _mm256_shuffle_epi8(plane_[3], index);
    const __m256i low_words = _mm256_unpacklo_epi8(b0, b1);
    const __m256i high_words = _mm256_unpacklo_epi8(b2, b3);
    lo = {_mm256_castsi256_ps(_mm256_unpacklo_epi16(low_words, high_words)),
          _mm256_castsi256_ps(_mm256_unpackhi_epi16(low_words, high_words))};
    const __m256i low_words2 = _mm256_unpackhi_epi8(b0, b1);
    const __m256i high_words2 = _mm256_unpackhi_epi8(b2, b3);
    hi = {_mm256_castsi256_ps(_mm256_unpacklo_epi16(low_words2, high_words2)),
          _mm256_castsi256_ps(_mm256_unpackhi_epi16(low_words2, high_words2))};
  }
  static void from_outputs(f32x16& lo, f32x16& hi) {
    const f32x16 a = lo;
    const f32x16 b = hi;
    lo = {_mm256_permute2f128_ps(a.lo, b.lo, 0x20), _mm256_permute2f128_ps(a.lo, b.lo, 0x31)};
    hi = {_mm256_permute2f128_ps(a.hi, b.hi, 0x20), _mm256_permute2f128_ps(a.hi, b.hi, 0x31)};
  }
  static void to_outputs(f32x16& lo, f32x16& hi) {
    const f32x16 a = lo;
    const f32x16 b = hi;
    lo = {_mm256_permute2f128_ps(a.lo, a.hi, 0x20), _mm256_permute2f128_ps(b.lo, b.hi, 0x20)};
    hi = {_mm256_permute2f128_ps(a.lo, a.hi, 0x31), _mm256_permute2f128_ps(b.lo, b.hi, 0x31)};
  }

 private:
  __m256i plane_[4];
#endif
};

// out[k - begin][32] = the values of outputs 32 panel .. + 31 at k in [begin, begin + depth),
// in their order or in the decoder's.
template <bool kToOutputs>
void unpack_nf4(float* out, const PackedWeight& w, std::int64_t panel, std::int64_t begin,
                std::int64_t depth) {
  const Nf4Decoder decoder;
  const auto* bytes = static_cast<const std::uint8_t*>(w.data) + panel * w.cols * 16;
  const float* scales = w.scales + panel * (w.cols / w.run) * kPanel;
  const std::int64_t end = begin + depth;
  for (std::int64_t k = begin; k < end;) {
    const std::int64_t run = k / w.run;
    const std::int64_t run_end = (run + 1) * w.run < end ? (run + 1) * w.run : end;
    f32x16 scale_lo = load(scales + run * kPanel);
    f32x16 scale_hi = load(scales + run * kPanel + 16);
    Nf4Decoder::from_outputs(scale_lo, scale_hi);
    for (; k < run_end; ++k, out += kPanel) {
      f32x16 lo, hi;
      decoder.decode(bytes + k * 16, lo, hi);
      lo = lo * scale_lo;
      hi = hi * scale_hi;
      if constexpr (kToOutputs) Nf4Decoder::to_outputs(lo, hi);
      store(out, lo);
      store(out + 16, hi);
    }
  }
}

}  // namespace qgrpo::cpu::QGRPO_ISA
