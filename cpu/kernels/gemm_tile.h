#pragma once

#include "cpu/kernels/gemm.h"
#include "cpu/simd.h"

namespace qgrpo::cpu::QGRPO_ISA {

inline f32x16 widened(const float* at) {
  return load(at);
}
inline f32x16 widened(const std::uint16_t* at) {
  return load_bf16(at);
}

// The register tile of x's rows, ldx apart. Per k: a load of b for each half, a broadcast of x for each
// row, ROWS x HALVES multiply-adds:
//   c[i][j] = (first ? 0 : c[i][j]) + sum over k < depth of x[i][k] * b[k][j], for 16 or 32 columns j;
// b: [k][32] f32 or bf16. Asks for the cache lines of `ahead`, kAheadBytes a k, on the way: spread
// so, they do not fill the queue of loads.
template <typename T, int HALVES, int ROWS, std::int64_t kAheadBytes>
void row_tile(float* c, std::int64_t ldc, const float* x, std::int64_t ldx, const T* b,
              std::int64_t depth, bool first, const char* ahead) {
  // Three rows a pointer: x86 addresses reach pointer + {0, 1, 2} x ldx without arithmetic.
  constexpr int kPointers = (ROWS + 2) / 3;
  const float* row[kPointers];
#pragma GCC unroll 8
  for (int p = 0; p < kPointers; ++p) row[p] = x + 3 * p * ldx;
  f32x16 acc[ROWS][HALVES];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 2
    for (int h = 0; h < HALVES; ++h) {
      acc[i][h] = first ? zero16() : load(c + i * ldc + h * 16);
    }
  }
  for (std::int64_t k = 0; k < depth; ++k) {
#pragma GCC unroll 2
    for (std::int64_t line = 0; line < kAheadBytes; line += 64) {
      _mm_prefetch(ahead + k * kAheadBytes + line, _MM_HINT_T0);
    }
    f32x16 bk[HALVES];
#pragma GCC unroll 2
    for (int h = 0; h < HALVES; ++h) bk[h] = widened(b + k * kPanel + h * 16);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
      const f32x16 xi = splat(row[i / 3][(i % 3) * ldx]);
#pragma GCC unroll 2
      for (int h = 0; h < HALVES; ++h) acc[i][h] = fma(xi, bk[h], acc[i][h]);
    }
#pragma GCC unroll 8
    for (int p = 0; p < kPointers; ++p) ++row[p];
  }
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 2
    for (int h = 0; h < HALVES; ++h) store(c + i * ldc + h * 16, acc[i][h]);
  }
}

}  // namespace qgrpo::cpu::QGRPO_ISA
