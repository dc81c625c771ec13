#include "cpu/kernels/gemm.h"
#include "cpu/kernels/pack_transpose.h"

// From finished chains in scratch to the output, and back for chains that go on.

namespace qgrpo::cpu::QGRPO_ISA {
namespace {

template <Into INTO, bool kBias>
f32x16 combine(f32x16 y, f32x16 c, f32x16 bias, f32x16 scale) {
  if constexpr (INTO == Into::overwrite) return kBias ? c + bias : c;
  if constexpr (INTO == Into::accumulate) return y + (kBias ? c + bias : c);
  if constexpr (INTO == Into::scaled) return scale * c;
  if constexpr (INTO == Into::add_scaled) return fma(scale, c, y);
  return c;
}

template <Into INTO, bool kBias>
void finish_rows(float* y, std::int64_t ldy, const float* c, std::int64_t ldc, std::int64_t rows,
                 std::int64_t cols, const float* bias, float scale) {
  constexpr bool kReads = INTO == Into::accumulate || INTO == Into::add_scaled;
  const f32x16 s = splat(scale);
  for (std::int64_t i = 0; i < rows; ++i, y += ldy, c += ldc) {
    std::int64_t j = 0;
    for (; j + 16 <= cols; j += 16) {
      const f32x16 old = kReads ? load(y + j) : zero16();
      const f32x16 b = kBias ? load(bias + j) : zero16();
      store(y + j, combine<INTO, kBias>(old, load(c + j), b, s));
    }
    if (j < cols) {
      const int n = static_cast<int>(cols - j);
      const f32x16 old = kReads ? load_partial(y + j, n) : zero16();
      const f32x16 b = kBias ? load_partial(bias + j, n) : zero16();
      store_partial(y + j, combine<INTO, kBias>(old, load_partial(c + j, n), b, s), n);
    }
  }
}

// Transposed: 8 x 8 blocks of c are turned in a small buffer, which then is finished as rows.
template <Into INTO>
void finish_columns(float* y, std::int64_t ldy, const float* c, std::int64_t ldc, std::int64_t rows,
                    std::int64_t cols, float scale) {
  constexpr std::int64_t kBlock = 32;
  alignas(64) float turned[kBlock * kBlock];
  for (std::int64_t j = 0; j < cols; j += kBlock) {
    const std::int64_t width = cols - j < kBlock ? cols - j : kBlock;
    for (std::int64_t i = 0; i < rows; i += kBlock) {
      const std::int64_t height = rows - i < kBlock ? rows - i : kBlock;
      transpose(turned, kBlock, c + i * ldc + j, ldc, height, width);
      finish_rows<INTO, false>(y + j * ldy + i, ldy, turned, kBlock, width, height, nullptr, scale);
    }
  }
}

}  // namespace

void finish(float* y, std::int64_t ldy, bool transposed, const float* c, std::int64_t ldc,
            std::int64_t rows, std::int64_t cols, Into into, const float* bias, float scale) {
  if (transposed) {
    switch (into) {
      case Into::overwrite:
      case Into::chain:
        return finish_columns<Into::chain>(y, ldy, c, ldc, rows, cols, scale);
      case Into::accumulate:
        return finish_columns<Into::accumulate>(y, ldy, c, ldc, rows, cols, scale);
      case Into::scaled:
        return finish_columns<Into::scaled>(y, ldy, c, ldc, rows, cols, scale);
      case Into::add_scaled:
        return finish_columns<Into::add_scaled>(y, ldy, c, ldc, rows, cols, scale);
    }
  }
  switch (into) {
    case Into::overwrite:
      return bias != nullptr
                 ? finish_rows<Into::overwrite, true>(y, ldy, c, ldc, rows, cols, bias, scale)
                 : finish_rows<Into::overwrite, false>(y, ldy, c, ldc, rows, cols, bias, scale);
    case Into::accumulate:
      return bias != nullptr
                 ? finish_rows<Into::accumulate, true>(y, ldy, c, ldc, rows, cols, bias, scale)
                 : finish_rows<Into::accumulate, false>(y, ldy, c, ldc, rows, cols, bias, scale);
    case Into::scaled:
      return finish_rows<Into::scaled, false>(y, ldy, c, ldc, rows, cols, bias, scale);
    case Into::add_scaled:
      return finish_rows<Into::add_scaled, false>(y, ldy, c, ldc, rows, cols, bias, scale);
    case Into::chain:
      return finish_rows<Into::chain, false>(y, ldy, c, ldc, rows, cols, bias, scale);
  }
}

void begin_chain(float* c, std::int64_t ldc, const float* y, std::int64_t ldy, bool transposed,
                 std::int64_t rows, std::int64_t cols) {
  const std::int64_t padded = (cols + kPanel - 1) / kPanel * kPanel;
  if (transposed) {
    transpose(c, ldc, y, ldy, cols, rows);
  } else {
    finish_rows<Into::chain, false>(c, ldc, y, ldy, rows, cols, nullptr, 1.0f);
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = cols; j < padded; ++j) c[i * ldc + j] = 0.0f;
  }
}

void sum_rows(float* out, const float* x, std::int64_t ldx, std::int64_t rows, std::int64_t cols) {
  std::int64_t j = 0;
  for (; j + 64 <= cols; j += 64) {
    f32x16 sum[4];
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) sum[c] = load(out + j + c * 16);
    for (std::int64_t i = 0; i < rows; ++i) {
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) sum[c] = sum[c] + load(x + i * ldx + j + c * 16);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) store(out + j + c * 16, sum[c]);
  }
  for (; j < cols; ++j) {
    for (std::int64_t i = 0; i < rows; ++i) out[j] += x[i * ldx + j];
  }
}

}  // namespace qgrpo::cpu::QGRPO_ISA
