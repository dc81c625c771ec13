#pragma once

#include <span>

#include "cpu/layer_context.h"
#include "model/ops/ops.h"

// The operators that go row by row or element by element: LayerOps names formulas, shapes and
// aliasing. float32; the sums within a row run in one fixed order, those over tokens in the order
// of the tokens (the threads share the columns then).

namespace qgrpo::cpu {

// target[rows[i]] += values[i] in the order of i; rows of `width`, target has `count` rows.
// embedding_backward and scatter_add_rows.
void scatter_add_rows(LayerContext& context, TensorView target, ConstTensorView values,
                      std::span<const std::int32_t> rows);
void gather_rows(LayerContext& context, TensorView out, ConstTensorView x,
                 std::span<const std::int32_t> rows);

void rmsnorm_forward(LayerContext& context, TensorView y, TensorView rstd, ConstTensorView x,
                     ConstTensorView weight, float eps);
void rmsnorm_backward(LayerContext& context, TensorView dx, TensorView dweight, ConstTensorView dy,
                      ConstTensorView x, ConstTensorView weight, ConstTensorView rstd);

// sign 1: forward, -1: backward.
void rope(LayerContext& context, TensorView x, std::int32_t head_dim, double theta,
          std::span<const std::int32_t> positions, float sign);

void swiglu_forward(LayerContext& context, TensorView y, ConstTensorView gate, ConstTensorView up);
void swiglu_backward(LayerContext& context, TensorView dgate, TensorView dup, ConstTensorView dy,
                     ConstTensorView gate, ConstTensorView up);

void add(LayerContext& context, TensorView y, ConstTensorView x);
void copy(LayerContext& context, TensorView y, ConstTensorView x);
void zero(LayerContext& context, TensorView y);

}  // namespace qgrpo::cpu
