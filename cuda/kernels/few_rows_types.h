#pragma once

#include "cuda/kernels/nf4.h"

// What the host tells the kernels for few rows (cuda/kernels/few_rows.h).
namespace qgrpo::cuda::kernels {

// A matrix (rows, K) of a product of few rows: NF4, or bf16 row-major.
struct FewRowsMatrix {
  const uint4* data = nullptr;           // NF4: 32 weights each; bf16: 8
  const std::uint8_t* absmax = nullptr;  // NF4 alone, as in Nf4View
  const float* nested = nullptr;
  float offset = 0.0f;
  int rows = 0;
  const float* bias = nullptr;  // (rows) or null

  static FewRowsMatrix of(const Nf4View& w, const float* bias) {
    return {w.packed, w.absmax, w.nested, w.offset, static_cast<int>(w.rows), bias};
  }
  static FewRowsMatrix of(const bf16* w, std::int64_t rows, const float* bias) {
    return {
        reinterpret_cast<const uint4*>(w), nullptr, nullptr, 0.0f, static_cast<int>(rows), bias};
  }
};

// A low-rank term of the rows [row_begin, row_end): adds t b^T.
struct FewRowsLow {
  const bf16* t = nullptr;  // (row_end - row_begin, rank)
  const bf16* b = nullptr;  // (outputs, rank)
  int rank = 0;             // a multiple of 8
  int row_begin = 0;
  int row_end = 0;
  int matrix = 0;  // of FewRowsPart::matrix
};

// One product of a launch.
struct FewRowsPart {
  FewRowsMatrix matrix[2];  // [1]: `up` of a SwiGLU, of the size of [0]
  void* y = nullptr;        // (rows, outputs), bf16 or f32
  bf16* gate = nullptr;     // SwiGLU: the two products as bf16, or null
  bf16* up = nullptr;
  const bf16* residual = nullptr;  // (rows, outputs) or null; may be y
  float scale = 1.0f;
  int outputs = 0;    // columns of y; those from matrix.rows on become 0
  int row_begin = 0;  // of x
  int rows = 0;       // at most kFewRows
  int low_begin = 0;  // of FewRowsArgs::low
  int low_end = 0;
  int splits = 1;
  // By few_rows():
  int split_steps = 0;  // steps of K in a split
  int first_block = 0;
  int first_tile = 0;
  std::int64_t first_partial = 0;
};

enum class FewRowsOutput {
  halves,  // y = bf16([residual +] sum + bias)
  floats,  // y = sum, f32
  scaled,  // y = bf16(scale * sum)
  swiglu,  // y = bf16(silu(g) u), g = bf16(sum_0 + bias_0), u = bf16(sum_1 + bias_1)
};

inline constexpr int kFewRowsParts = 12;

struct FewRowsArgs {
  FewRowsPart part[kFewRowsParts];
  FewRowsLow low[kFewRowsParts];
  int parts = 0;
  FewRowsOutput output = FewRowsOutput::halves;
  const bf16* x = nullptr;            // (rows, cols)
  int cols = 0;                       // K; NF4: a multiple of 32, bf16: of 8
  const float* map = nullptr;         // NF4: the dynamic map (256)
  float* partial = nullptr;           // split_sums of all parts, where one is split
  std::uint32_t* counters = nullptr;  // zeros, one a tile of the parts that are split
};

}  // namespace qgrpo::cuda::kernels
