#pragma once

#include <span>

#include "cuda/gemm.h"
#include "cuda/weight.h"

namespace qgrpo::cuda {

// LayerOps::linear_forward. All factors and sums:
//   t = bf16(scale * x bf16(A)^T),  y = bf16([residual +] x W^T + bias + t bf16(B)^T)
// with the sums over k and r in float32 and no rounding between the terms; bf16(A), bf16(B) are the
// shadows where there are some. Where device.few_rows(): the kernels of cuda/few_rows.h, whatever
// the number of rows; else the matrix is dequantized once for all rows and Gemm is used. The two
// differ by the rounding of float32 sums; in neither do a row's bits depend on the other rows.
void linear_forward(Device& device, Gemm& gemm, TensorView y, ConstTensorView x,
                    const Linear& linear, std::span<const AdapterRun> runs,
                    ConstTensorView residual);

// LayerOps::linear_forward_group: the bits of linear_forward, in one launch (and one for t) of few
// rows.
void linear_forward_group(Device& device, Gemm& gemm, std::span<const TensorView> y,
                          ConstTensorView x, std::span<const Linear> linears,
                          std::span<const AdapterRun> runs);

// LayerOps::swiglu_linear_forward: the bits of linear_forward and swiglu_forward, likewise.
void swiglu_linear_forward(Device& device, Gemm& gemm, TensorView act, TensorView gate,
                           TensorView up, ConstTensorView x, const Linear& gate_linear,
                           const Linear& up_linear, std::span<const AdapterRun> runs, bool keep);

// logits (rows, N) f32 = x (rows, K) weight^T by the kernels for few rows: a row's bits depend
// neither on `rows` nor on the other rows. Any number of rows and N; K a multiple of 8. Nothing is
// copied to the device: it can be recorded in a graph once its scratch is there.
void few_row_logits(Device& device, float* logits, const kernels::bf16* x, const CudaWeight& weight,
                    std::int64_t rows);

}  // namespace qgrpo::cuda
