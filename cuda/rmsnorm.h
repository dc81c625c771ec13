#pragma once

#include "cuda/device/device.h"

namespace qgrpo::cuda {

// LayerOps' RMSNorm.
void rmsnorm_forward(Device& device, TensorView y, TensorView rstd, ConstTensorView x,
                     ConstTensorView weight, float eps);
void rmsnorm_backward(Device& device, TensorView dx, TensorView dweight, ConstTensorView dy,
                      ConstTensorView x, ConstTensorView weight, ConstTensorView rstd);

}  // namespace qgrpo::cuda
