#include "cpu/kernels/gemm.h"
#include "cpu/kernels/gemm_nf4.h"
#include "cpu/kernels/pack_transpose.h"

// Panels [k][32] of float32 from weights and plain matrices, and NF4 quantization.

namespace qgrpo::cpu::QGRPO_ISA {
namespace {

const float* unpack(float* scratch, const PackedWeight& w, std::int64_t panel, std::int64_t begin,
                    std::int64_t depth) {
  const std::int64_t first = (panel * w.cols + begin) * kPanel;
  switch (w.format) {
    case PanelFormat::f32:
      return static_cast<const float*>(w.data) + first;
    case PanelFormat::bf16: {
      widen_bf16(scratch, static_cast<const std::uint16_t*>(w.data) + first, depth * kPanel);
      break;
    }
    case PanelFormat::nf4:
      unpack_nf4</*kToOutputs=*/true>(scratch, w, panel, begin, depth);
      break;
  }
  return scratch;
}

void clear_columns(float* out, std::int64_t from, std::int64_t depth) {
  if (from >= kPanel) return;
  for (std::int64_t k = 0; k < depth; ++k) {
    for (std::int64_t j = from; j < kPanel; ++j) out[k * kPanel + j] = 0.0f;
  }
}

}  // namespace

const float* fill(float* scratch, const Operand& b, std::int64_t panel, std::int64_t begin,
                  std::int64_t depth) {
  const std::int64_t column = panel * kPanel;
  const std::int64_t left = b.columns - column;
  const std::int64_t width = left < kPanel ? left : kPanel;
  switch (b.kind) {
    case Operand::Kind::weight:
      return unpack(scratch, b.weight, panel, begin, depth);
    case Operand::Kind::weight_transposed:
      // 32 x 32 at a time: the reduction's rows n lie along a panel's width.
      for (std::int64_t k = 0; k < depth; k += kPanel) {
        alignas(64) float block[kPanel * kPanel];
        const float* values = unpack(block, b.weight, (begin + k) / kPanel, column, width);
        const std::int64_t rows = depth - k < kPanel ? depth - k : kPanel;
        transpose(scratch + k * kPanel, kPanel, values, kPanel, width, rows);
      }
      break;
    case Operand::Kind::rows: {
      const float* at = b.data + begin * b.ld + column;
      if (b.ld == kPanel && width == kPanel) return at;
      for (std::int64_t k = 0; k < depth; ++k, at += b.ld) {
        if (width == kPanel) {
          store(scratch + k * kPanel, load(at));
          store(scratch + k * kPanel + 16, load(at + 16));
        } else {
          for (std::int64_t j = 0; j < width; ++j) scratch[k * kPanel + j] = at[j];
        }
      }
      break;
    }
    case Operand::Kind::columns:
      transpose(scratch, kPanel, b.data + column * b.ld + begin, b.ld, width, depth);
      break;
  }
  clear_columns(scratch, width, depth);
  return scratch;
}

bool nf4_blocks(std::uint8_t* packed, float* absmax, const float* values, std::int64_t count) {
  float midpoints[15];
  for (std::size_t m = 0; m < 15; ++m) midpoints[m] = (kNf4Code[m] + kNf4Code[m + 1]) / 2.0f;
  bool finite = true;
  for (std::int64_t begin = 0; begin < count; begin += kNf4Block) {
    const std::int64_t n = count - begin < kNf4Block ? count - begin : kNf4Block;
    alignas(64) float x[kNf4Block] = {};
    __builtin_memcpy(x, values + begin, static_cast<std::size_t>(n) * sizeof(float));
    // Magnitudes of floats order as their bits do; all ones in the exponent is not finite.
    alignas(64) std::uint32_t bits[kNf4Block];
    __builtin_memcpy(bits, x, sizeof(x));
    std::uint32_t largest_bits = 0;
    for (const std::uint32_t b : bits) {
      const std::uint32_t magnitude = b & 0x7fffffffu;
      largest_bits = magnitude > largest_bits ? magnitude : largest_bits;
    }
    finite = finite && largest_bits < 0x7f800000u;
    float largest;
    __builtin_memcpy(&largest, &largest_bits, sizeof(largest));
    absmax[begin / kNf4Block] = largest;

    alignas(64) std::int32_t index[kNf4Block] = {};
    if (largest > 0.0f) {
      const float inverse = 1.0f / largest;
      if (n == kNf4Block) {
        for (float& v : x) v = v * inverse;
      } else {
        for (float& v : x) v = v / largest;
      }
      for (float& v : x) v = v < -1.0f ? -1.0f : (1.0f < v ? 1.0f : v);
    }
    for (const float midpoint : midpoints) {
      for (int i = 0; i < kNf4Block; ++i) index[i] += midpoint < x[i] ? 1 : 0;
    }
    std::uint8_t* out = packed + begin / 2;
    const std::int64_t bytes = (n + 1) / 2;
    for (std::int64_t i = 0; i < bytes; ++i) {
      const std::int32_t second = 2 * i + 1 < n ? index[2 * i + 1] : 0;
      out[i] = static_cast<std::uint8_t>(index[2 * i] << 4 | second);
    }
  }
  return finite;
}

void widen_bf16(float* out, const std::uint16_t* in, std::int64_t count) {
  std::int64_t i = 0;
  for (; i + 16 <= count; i += 16) store(out + i, load_bf16(in + i));
  for (; i < count; ++i) {
    const std::uint32_t bits = static_cast<std::uint32_t>(in[i]) << 16;
    __builtin_memcpy(out + i, &bits, sizeof(bits));
  }
}

}  // namespace qgrpo::cpu::QGRPO_ISA
