#include "cpu/kernels/gemm.h"

namespace qgrpo::cpu::QGRPO_ISA {

std::int64_t fma_loop(std::int64_t iterations, float* sink) {
#if defined(__AVX512F__)
  constexpr int kChains = 16;
#else
  constexpr int kChains = 6;  // of two registers
#endif
  // Chains that start alike would be merged by the compiler.
  float starts[kChains * 16];
  for (int i = 0; i < kChains * 16; ++i) starts[i] = *sink + static_cast<float>(i);
  f32x16 acc[kChains];
#pragma GCC unroll 16
  for (int c = 0; c < kChains; ++c) acc[c] = load(starts + c * 16);
  const f32x16 x = splat(0.999f);
  const f32x16 y = splat(*sink);
  for (std::int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
    for (f32x16& a : acc) a = fma(a, x, y);
  }
#pragma GCC unroll 16
  for (int c = 1; c < kChains; ++c) acc[0] = acc[0] + acc[c];
  *sink = reduce_add(acc[0]);
  return iterations * kChains * 16 * 2;
}

const GemmKernels& gemm_kernels() {
  static constexpr GemmKernels table = {
      kTileRows, kFusedRows, tile,       fused,          fill,       finish,  begin_chain,
      sum_rows,  nf4_blocks, widen_bf16, row_statistics, scaled_exp, fma_loop};
  return table;
}

}  // namespace qgrpo::cpu::QGRPO_ISA
