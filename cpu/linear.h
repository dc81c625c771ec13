#pragma once

#include <cstdint>
#include <span>

#include "cpu/gemm.h"
#include "cpu/weight.h"
#include "model/ops/ops.h"

// The linear layer with LoRA: LayerOps::linear_forward and linear_backward on the CPU.
//
// Order of operations, the same for one row and for many (chain = one sequence of fused
// multiply-adds from 0, in the order of the index; fma = one rounding):
//
//   forward    t_r   = chain over k of x_k A_rk
//              v_n   = chain over k of x_k W_nk  (+ bias_n)
//              y_n   = v_n, or y_n + v_n with accumulate
//              y_n   = fma(scale, chain over r of t_r B_nr, y_n)
//   backward   u_r   = scale * chain over n of dy_n B_nr
//              dx_k  = chain over n of dy_n W_nk, or dx_k + that
//              dx_k += chain over r of u_r A_rk
//              dA_rk: the chain over tokens of u_r x_k            )
//              dB_nr: the chain over tokens of (scale t_r) dy_n   ) go on from the value found
//              dW_nk: the chain over tokens of dy_n x_k           )
//              dbias_n: a plain sum over tokens                   )
//
// So a gradient over tokens has the same bits however its tokens are spread over successive calls.

namespace qgrpo::cpu {

// y (T, N), x (T, K), both f32; y must not overlap x. The runs cover rows 0..T.
void linear_forward(GemmContext& context, TensorView y, ConstTensorView x, const Linear& linear,
                    std::span<const AdapterRun> runs, bool accumulate = false);

// dx (T, K) or null; dy (T, N); x (T, K). x is read only where a gradient needs it. dx must not
// overlap dy or x.
void linear_backward(GemmContext& context, TensorView dx, bool accumulate,
                     const LinearGradients& gradients, ConstTensorView dy, ConstTensorView x,
                     const Linear& linear, std::span<const AdapterRun> runs);

// Most scratch that a context holds for these two with batches of up to `tokens` rows, `threads`
// threads and adapters of up to `rank`.
std::size_t linear_workspace_bytes(std::int64_t tokens, std::int64_t rank, int threads);

}  // namespace qgrpo::cpu
