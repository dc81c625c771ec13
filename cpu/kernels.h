#pragma once

#include <cstdint>

#include "cpu/dispatch.h"

// The kernels of the linear layer and the head: bare functions on pointers, compiled once per
// instruction set from cpu/kernels and chosen through a table. No kernel allocates, throws or knows
// threads.
//
// A matrix product is C(i, j) = sum over k of A(i, k) B(k, j), for tiles of 32 columns j. Every
// element is ONE chain of fused multiply-adds in the order of k, whatever the shape of the tile: so
// it has the same bits for one row and for many, for AVX2 and AVX-512. B is brought into panels
// [k][32] of float32.

namespace qgrpo::cpu {

inline constexpr int kPanel = 32;  // columns of a panel

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

enum class PanelFormat : std::uint8_t { f32, bf16, nf4 };

// A weight (N, K) in panels of 32 outputs n; the last panel is padded with zeros.
struct PackedWeight {
  PanelFormat format = PanelFormat::f32;
  std::int64_t rows = 0;  // N
  std::int64_t cols = 0;  // K
  // [panel][k][32] f32 or bf16; nf4: [panel][k][16 bytes], byte j = index of output j in the low
  // nibble, of output j + 16 in the high one.
  const void* data = nullptr;
  // nf4: [panel][k / run][32] f32, the scale of each output in each run of k. Blocks of 64 of the
  // flattened matrix may cross rows, so a row's scale changes at multiples of run = gcd(K, 64) and
  // nowhere else, whichever row it is.
  const float* scales = nullptr;
  std::int64_t run = 1;
};

// The second factor of a product: what B(k, j) is, for k < depth and j < columns.
struct Operand {
  enum class Kind : std::uint8_t {
    weight,             // B(k, j) = W[j][k]: the linear forward
    weight_transposed,  // B(k, j) = W[k][j]: its backward
    rows,               // B(k, j) = data[k * ld + j]
    columns             // B(k, j) = data[j * ld + k]
  };
  Kind kind = Kind::rows;
  PackedWeight weight;
  const float* data = nullptr;
  std::int64_t ld = 0;
  std::int64_t columns = 0;
  std::int64_t depth = 0;
};

// What becomes of a finished chain c in an output y.
enum class Into : std::uint8_t {
  overwrite,   // y = c + bias
  accumulate,  // y = y + (c + bias)
  scaled,      // y = scale * c
  add_scaled,  // y = fma(scale, c, y)
  chain        // y = c, where the chain began at y instead of 0
};

// Statistics of softmax(inv_temperature * logits).
struct RowStatistics {
  double max = 0.0;          // of inv_temperature * logits
  double log_sum_exp = 0.0;  // NaN when a logit is NaN or infinite
  double entropy = 0.0;      // nats
};

struct GemmKernels {
  int tile_rows;   // most rows of `tile`
  int fused_rows;  // most rows of `fused`

  // c[i][j] = (first ? 0 : c[i][j]) + sum over k < depth of a[i * a_row + k * a_step] * b[k][j],
  // for i < rows <= tile_rows, j < lanes (16 or 32). a_step or a_row is 1. c: ld ldc; b: [k][32].
  void (*tile)(float* c, std::int64_t ldc, const float* a, std::int64_t a_row, std::int64_t a_step,
               const float* b, std::int64_t depth, int rows, int lanes, bool first);
  // c[i][32 p + j] = sum over k of x[i * ldx + k] * W[32 (panel + p) + j][k], for i < rows <=
  // fused_rows, p < panels: few rows straight from the packed weight, unpacked in registers
  // or, a few k at a time, in the first-level cache.
  void (*fused)(float* c, std::int64_t ldc, const float* x, std::int64_t ldx,
                const PackedWeight& weight, std::int64_t panel, int panels, int rows);
  // The panel [k][32] of B for columns 32 panel .. and k in [begin, begin + depth): in place where
  // it lies so in memory, or else written to scratch. begin is a multiple of 32. Columns past the
  // end are zero.
  const float* (*fill)(float* scratch, const Operand& b, std::int64_t panel, std::int64_t begin,
                       std::int64_t depth);
  // y from c as `into` says (chain: y = c); y(i, j) is y[i * ldy + j], or y[j * ldy + i] when
  // transposed. bias: (cols) or null.
  void (*finish)(float* y, std::int64_t ldy, bool transposed, const float* c, std::int64_t ldc,
                 std::int64_t rows, std::int64_t cols, Into into, const float* bias, float scale);
  // c[i][j] = y(i, j), for j < cols; 0 for cols <= j < 32 * ceil(cols / 32).
  void (*begin_chain)(float* c, std::int64_t ldc, const float* y, std::int64_t ldy, bool transposed,
                      std::int64_t rows, std::int64_t cols);
  // out[j] = (((out[j] + x[0][j]) + x[1][j]) + ...), for j < cols: a sum over rows in their order.
  void (*sum_rows)(float* out, const float* x, std::int64_t ldx, std::int64_t rows,
                   std::int64_t cols);

  // NF4 of `count` finite values that start a block of 64: two indices a byte, and the absmax of
  // each block. The bits are those of nf4_quantize. Returns whether all values are finite.
  bool (*nf4_blocks)(std::uint8_t* packed, float* absmax, const float* values, std::int64_t count);
  // out[i] = the float32 value of a bf16 number.
  void (*widen_bf16)(float* out, const std::uint16_t* in, std::int64_t count);

  // Of one row of logits. Sums run in float32 within blocks of 1024 logits, lane i taking every
  // 16th, and over the blocks in double, in order.
  RowStatistics (*row_statistics)(const float* logits, std::int64_t count, float inv_temperature);
  // logits[v] = factor * exp(inv_temperature * logits[v] - max), in place.
  void (*scaled_exp)(float* logits, std::int64_t count, float inv_temperature, float max,
                     float factor);

  // The machine's limit for the above: multiply-adds on registers alone, 16 independent chains of
  // 16 floats (12 of 8 with AVX2), `iterations` times each. Returns the number of floating-point
  // operations; *sink keeps the compiler from dropping them.
  std::int64_t (*fma_loop)(std::int64_t iterations, float* sink);
};

const GemmKernels& gemm_kernels(Isa isa);

namespace avx2 {
const GemmKernels& gemm_kernels();
}
namespace avx512 {
const GemmKernels& gemm_kernels();
}

}  // namespace qgrpo::cpu
