#pragma once

#include <span>

#include "cuda/gemm.h"
#include "cuda/weight.h"

namespace qgrpo::cuda {

// LayerOps::linear_backward. x (T, K), dy (T, N), dx (T, K) bf16; gradients f32, +=. With a =
// bf16(A) and b = bf16(B) (the shadows, where there are any), for the rows of each run
//   u = bf16(scale * dy b)      (T, R)        t = bf16(scale * x a^T)   (T, R)
//   dA += u^T x                 (R, K)        dB += dy^T t              (N, R)
//   dx = bf16([dx +] u a)                     then  dx = bf16(dx + dy W)
// and over all rows dweight += dy^T x, dbias += sum of dy. Sums in float32, without split-K:
// each gradient is one sum over the tokens of a run in order, on top of what it holds. dx without
// an adapter is rounded once; with one, the low-rank term (with what dx held) is rounded before the
// base's product is added. A row of dx depends on that row alone, and not on the number of rows.
// `dx` may be null: then W is not read. x is read where an adapter or the weight is trained, and
// may be null otherwise. dx overlaps neither x nor dy.
//
// The base is dequantized once for all rows. What the adapters add is bound by memory: u and dB
// read dy, t and dA read x, 64 FLOP a byte at rank 64 where an L4 has 400 and an A100 200. With H =
// 2048 and 8192 tokens that is 34 MB each, 0.11 ms on an L4 and 0.02 ms on an A100 (predicted),
// beside 0.57 ms and 0.22 ms of the base's product. dA and dB have R x K outputs, 32 tiles of 64 x
// 64: with 16 KB in flight each about 0.9 TB/s, all that an L4 has and half of an A100's.
void linear_backward(Device& device, Gemm& gemm, TensorView dx, bool accumulate,
                     const LinearGradients& gradients, ConstTensorView dy, ConstTensorView x,
                     const Linear& linear, std::span<const AdapterRun> runs);

}  // namespace qgrpo::cuda
