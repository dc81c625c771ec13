#pragma once

#include "cpu/layer_context.h"
#include "model/ops/ops.h"

// LayerOps' RMSNorm, which names the formulas; float32. The sums within a row run in one fixed
// order, dweight's in the order of the tokens.
namespace qgrpo::cpu {

void rmsnorm_forward(LayerContext& context, TensorView y, TensorView rstd, ConstTensorView x,
                     ConstTensorView weight, float eps);
void rmsnorm_backward(LayerContext& context, TensorView dx, TensorView dweight, ConstTensorView dy,
                      ConstTensorView x, ConstTensorView weight, ConstTensorView rstd);

}  // namespace qgrpo::cpu
