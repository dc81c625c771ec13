#include "cpu/kernels/gemm.h"

// The register tile of every product with more rows than the fused kernel takes. Per k: two loads
// of B, one broadcast of A a row, rows x 2 multiply-adds.

namespace qgrpo::cpu::QGRPO_ISA {
namespace {

// a_step is 1 when kUnitStep (rows of A lie apart), else a_row is 1 (columns of A do).
template <int ROWS, int HALVES, bool kUnitStep>
void tile_body(float* c, std::int64_t ldc, const float* a, std::int64_t a_row, std::int64_t a_step,
               const float* b, std::int64_t depth, bool first) {
  f32x16 acc[ROWS][HALVES];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 2
    for (int h = 0; h < HALVES; ++h) acc[i][h] = first ? zero16() : load(c + i * ldc + h * 16);
  }
  if constexpr (kUnitStep) {
    // Three rows a pointer: x86 addresses reach pointer + {0, 1, 2} x a_row without arithmetic.
    constexpr int kPointers = (ROWS + 2) / 3;
    const float* row[kPointers];
#pragma GCC unroll 8
    for (int p = 0; p < kPointers; ++p) row[p] = a + 3 * p * a_row;
    for (std::int64_t k = 0; k < depth; ++k) {
      f32x16 bk[HALVES];
#pragma GCC unroll 2
      for (int h = 0; h < HALVES; ++h) bk[h] = load(b + k * kPanel + h * 16);
#pragma GCC unroll 16
      for (int i = 0; i < ROWS; ++i) {
        const f32x16 ai = splat(row[i / 3][(i % 3) * a_row]);
#pragma GCC unroll 2
        for (int h = 0; h < HALVES; ++h) acc[i][h] = fma(ai, bk[h], acc[i][h]);
      }
#pragma GCC unroll 8
      for (int p = 0; p < kPointers; ++p) ++row[p];
    }
  } else {
    for (std::int64_t k = 0; k < depth; ++k) {
      f32x16 bk[HALVES];
#pragma GCC unroll 2
      for (int h = 0; h < HALVES; ++h) bk[h] = load(b + k * kPanel + h * 16);
#pragma GCC unroll 16
      for (int i = 0; i < ROWS; ++i) {
        const f32x16 ai = splat(a[i]);
#pragma GCC unroll 2
        for (int h = 0; h < HALVES; ++h) acc[i][h] = fma(ai, bk[h], acc[i][h]);
      }
      a += a_step;
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 2
    for (int h = 0; h < HALVES; ++h) store(c + i * ldc + h * 16, acc[i][h]);
  }
}

using Body = void (*)(float*, std::int64_t, const float*, std::int64_t, std::int64_t, const float*,
                      std::int64_t, bool);

// [rows - 1]
template <int HALVES, bool kUnitStep>
constexpr Body kBodies[] = {
    tile_body<1, HALVES, kUnitStep>,  tile_body<2, HALVES, kUnitStep>,
    tile_body<3, HALVES, kUnitStep>,  tile_body<4, HALVES, kUnitStep>,
    tile_body<5, HALVES, kUnitStep>,  tile_body<6, HALVES, kUnitStep>,
#if defined(__AVX512F__)
    tile_body<7, HALVES, kUnitStep>,  tile_body<8, HALVES, kUnitStep>,
    tile_body<9, HALVES, kUnitStep>,  tile_body<10, HALVES, kUnitStep>,
    tile_body<11, HALVES, kUnitStep>, tile_body<12, HALVES, kUnitStep>,
    tile_body<13, HALVES, kUnitStep>, tile_body<14, HALVES, kUnitStep>,
#endif
};

}  // namespace

void tile(float* c, std::int64_t ldc, const float* a, std::int64_t a_row, std::int64_t a_step,
          const float* b, std::int64_t depth, int rows, int lanes, bool first) {
  const bool unit = a_step == 1;
#if defined(__AVX512F__)
  if (lanes == 32) {
    const Body body = unit ? kBodies<2, true>[rows - 1] : kBodies<2, false>[rows - 1];
    body(c, ldc, a, a_row, a_step, b, depth, first);
    return;
  }
#endif
  const Body body = unit ? kBodies<1, true>[rows - 1] : kBodies<1, false>[rows - 1];
  for (int begin = 0; begin < lanes; begin += 16) {
    body(c + begin, ldc, a, a_row, a_step, b + begin, depth, first);
  }
}

}  // namespace qgrpo::cpu::QGRPO_ISA
