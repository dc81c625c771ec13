#pragma once

#include "cpu/simd.h"

namespace qgrpo::cpu::QGRPO_ISA {

// out[8][8] (ld_out) = in[8][8]^T (ld_in), in registers.
inline void transpose8(float* out, std::int64_t ld_out, const float* in, std::int64_t ld_in) {
  __m256 r[8], t[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_ps(in + i * ld_in);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // pairs of rows, element by element
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {  // groups of four rows
    r[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    r[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    r[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    r[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // the two halves
    _mm256_storeu_ps(out + i * ld_out, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    _mm256_storeu_ps(out + (i + 4) * ld_out, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
}

// out[c * ld_out + r] = in[r * ld_in + c] for r < rows, c < cols.
inline void transpose(float* out, std::int64_t ld_out, const float* in, std::int64_t ld_in,
                      std::int64_t rows, std::int64_t cols) {
  const std::int64_t whole_rows = rows / 8 * 8;
  const std::int64_t whole_cols = cols / 8 * 8;
  for (std::int64_t r = 0; r < whole_rows; r += 8) {
    for (std::int64_t c = 0; c < whole_cols; c += 8) {
      transpose8(out + c * ld_out + r, ld_out, in + r * ld_in + c, ld_in);
    }
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = r < whole_rows ? whole_cols : 0; c < cols; ++c) {
      out[c * ld_out + r] = in[r * ld_in + c];
    }
  }
}

}  // namespace qgrpo::cpu::QGRPO_ISA
