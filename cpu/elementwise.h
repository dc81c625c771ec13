#pragma once

#include "cpu/layer_context.h"
#include "model/ops/ops.h"

// LayerOps' add, copy and zero.
namespace qgrpo::cpu {

void add(LayerContext& context, TensorView y, ConstTensorView x);
void copy(LayerContext& context, TensorView y, ConstTensorView x);
void zero(LayerContext& context, TensorView y);

}  // namespace qgrpo::cpu
