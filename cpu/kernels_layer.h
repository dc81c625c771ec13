#pragma once

#include <cstdint>

#include "cpu/dispatch.h"

// The vector kernels of the layer's operators other than the linear: attention, norms, rope,
// SwiGLU, and the softmax of the sampler. Each exists once per instruction set (cpu/kernels,
// compiled twice) with bit-equal results. Kernels are bare: no checks, no allocation, raw pointers
// and sizes.

namespace qgrpo::cpu {

inline constexpr int kKeyBlock = 64;  // kAttentionKeyBlock

// Rows of D floats are padded with zeros to whole vectors in the packed scratch.
constexpr int padded_dim(int dim) {
  return (dim + 15) / 16 * 16;
}

// One query row (token, head) on its way through the key blocks: the online softmax's state.
// Before the first block m = -inf, l = 0, o = 0.
struct AttentionRow {
  const float* q;  // (D)
  float* o;        // (padded D): sum of exp(s_j - m) v_j
  float m;         // largest score so far
  float l;         // sum of exp(s_j - m)
  int valid;       // visible keys of the block at hand, a prefix: 0 (skipped) .. 64
};

// The same row on the way back.
struct AttentionGradRow {
  const float* q;    // (D)
  const float* d_o;  // (D)
  float lse;
  float delta;  // sum_d dO O
  int valid;
};

struct LayerKernels {
  // Packs up to 64 rows of `dim` floats: as [64][padded_dim], or transposed as [dim][64]. What
  // lies outside is zero.
  void (*pack_rows)(float* out, const float* const* rows, int count, int dim);
  void (*pack_transposed)(float* out, const float* const* rows, int count, int dim);

  // One block of keys for `count` query rows. kt: [dim][64], v: [64][padded_dim]. Each row:
  //   s_j = scale * (FMA chain over d of q_d kt_dj)
  //   m'  = max(m, max_j s_j),  a = exp(m - m')
  //   p_j = exp(s_j - m')
  //   l   = l a + sum_j p_j
  //   o   = o a, then an FMA chain over j of p_j v_j
  // over its visible keys alone: the others may hold anything. No row depends on another.
  void (*attention_rows)(AttentionRow* rows, int count, const float* kt, const float* v, int dim,
                         float scale);
  //   p_j  = exp(s_j - lse)
  //   ds_j = scale p_j (dO . v_j - delta)
  // both 0 where not visible. p, ds: (count, 64), =; vt: [dim][64].
  void (*attention_grad_rows)(float* p, float* ds, const AttentionGradRow* rows, int count,
                              const float* kt, const float* vt, int dim, float scale);
  // acc[i] += sum_k coef[i * row_step + k * term_step] x[k], i < count, k < terms in order, each
  // element one FMA chain. acc: (count, padded), x: (terms, padded).
  void (*combine)(float* acc, int count, const float* coef, std::int64_t row_step,
                  std::int64_t term_step, const float* x, int terms, int padded);
  // sum_i a_i b_i in a fixed order.
  float (*dot)(const float* a, const float* b, std::int64_t n);

  // One row of n. See LayerOps for the formulas.
  void (*rmsnorm_forward)(float* y, float* rstd, const float* x, const float* weight,
                          std::int64_t n, float eps);
  void (*rmsnorm_backward)(float* dx, const float* dy, const float* x, const float* weight,
                           float rstd, std::int64_t n);
  // dweight += dy x rstd of one row, columns 0..n.
  void (*rmsnorm_dweight)(float* dweight, const float* dy, const float* x, float rstd,
                          std::int64_t n);
  // One head of one token in place, half = D / 2 pairs; `sign` -1 turns back.
  void (*rope)(float* x, const float* cos, const float* sin, int half, float sign);
  void (*swiglu_forward)(float* y, const float* gate, const float* up, std::int64_t n);
  void (*swiglu_backward)(float* dgate, float* dup, const float* dy, const float* gate,
                          const float* up, std::int64_t n);
  void (*add)(float* y, const float* x, std::int64_t n);

  // The largest of n values, and whether all of them are finite.
  float (*max_finite)(const float* x, std::int64_t n, bool* finite);
  // The sum of exp(x_i * scale - shift), n <= 1024, in a fixed order.
  float (*exp_sum)(const float* x, std::int64_t n, float scale, float shift);
  // out_i = exp(x_i * scale - shift).
  void (*exp_values)(float* out, const float* x, std::int64_t n, float scale, float shift);
};

namespace avx2 {
const LayerKernels& layer_kernel_table();
}
namespace avx512 {
const LayerKernels& layer_kernel_table();
}

inline const LayerKernels& layer_kernels(Isa isa) {
  return isa == Isa::avx512 ? avx512::layer_kernel_table() : avx2::layer_kernel_table();
}

}  // namespace qgrpo::cpu
