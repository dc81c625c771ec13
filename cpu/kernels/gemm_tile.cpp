#include "cpu/kernels/gemm_tile.h"

#include "cpu/kernels/gemm.h"

// The register tile of every product with more rows than the fused kernel takes. Per k: two loads
// of B, one broadcast of A a row, rows x 2 multiply-adds.

namespace qgrpo::cpu::QGRPO_ISA {
namespace {

// x's rows lie together: its columns are a_step apart.
template <int HALVES, int ROWS>
void column_tile(float* c, std::int64_t ldc, const float* a, std::int64_t a_step, const float* b,
                 std::int64_t depth, bool first) {
  f32x16 acc[ROWS][HALVES];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 2
    for (int h = 0; h < HALVES; ++h) acc[i][h] = first ? zero16() : load(c + i * ldc + h * 16);
  }
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
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 2
    for (int h = 0; h < HALVES; ++h) store(c + i * ldc + h * 16, acc[i][h]);
  }
}

template <int ROWS, int HALVES, bool kUnitStep>
void tile_body(float* c, std::int64_t ldc, const float* a, std::int64_t a_row, std::int64_t a_step,
               const float* b, std::int64_t depth, bool first) {
  if constexpr (kUnitStep) {
    row_tile<float, HALVES, ROWS, 0>(c, ldc, a, a_row, b, depth, first, nullptr);
  } else {
    column_tile<HALVES, ROWS>(c, ldc, a, a_step, b, depth, first);
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
