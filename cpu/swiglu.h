#pragma once

#include "cpu/layer_context.h"
#include "model/ops/ops.h"

// LayerOps' SwiGLU, which names the formulas and the aliasing; float32.
namespace qgrpo::cpu {

void swiglu_forward(LayerContext& context, TensorView y, ConstTensorView gate, ConstTensorView up);
void swiglu_backward(LayerContext& context, TensorView dgate, TensorView dup, ConstTensorView dy,
                     ConstTensorView gate, ConstTensorView up);

}  // namespace qgrpo::cpu
