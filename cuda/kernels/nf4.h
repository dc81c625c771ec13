#pragma once

#include "cuda/kernels/types.h"

namespace qgrpo::cuda::kernels {

// A matrix (rows, cols) in NF4 with double quantization, as model/ops/nf4.h describes it, in device
// memory: the file's own bytes, so a block of 64 can cross rows.
struct Nf4View {
  const uint4* packed = nullptr;  // 32 indices each, the first of a byte in its high half; padded
  const std::uint8_t* absmax = nullptr;  // one a block of 64
  const float* nested = nullptr;         // one per 256 of absmax
  const float* map = nullptr;            // (256) the signed dynamic map
  float offset = 0.0f;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
};

// out (rows, cols) = bf16(code * absmax'), the one value that a quantized weight has on the device.
cudaError_t nf4_dequantize(cudaStream_t stream, bf16* out, const Nf4View& weight);

// A low-rank term scale * B (A x) of a product, with t = bf16(scale * A x) already there.
struct LowRank {
  const bf16* t = nullptr;   // (rows of x, rank), or null for none
  const float* b = nullptr;  // (outputs, rank), rounded to bf16 where it is used
  int rank = 0;
};

// The most rows of x that nf4_linear takes.
inline constexpr int kNf4LinearRows = 16;

// y (m, N) (=|+=) x (m, K) weight^T + bias + t b^T, for m <= 16 rows; N = weight.rows, K =
// weight.cols, a multiple of 32. bias (N) f32 or null. Each output is a float32 sum in an order
// that depends on K alone, rounded once: a row's bits do not depend on m nor on the other rows.
// `processors`: the device's SM count, which sizes the blocks.
cudaError_t nf4_linear(cudaStream_t stream, bf16* y, const bf16* x, std::int64_t m,
                       const Nf4View& weight, const float* bias, const LowRank& low_rank,
                       bool accumulate, int processors);

// t (m, rank) = bf16(scale * x a^T), a (rank, K) f32 rounded to bf16 where it is used; m <= 16.
cudaError_t low_rank_down(cudaStream_t stream, bf16* t, const bf16* x, const float* a, float scale,
                          std::int64_t m, std::int64_t rank, std::int64_t cols);

}  // namespace qgrpo::cuda::kernels
