#pragma once

#include "cuda/device/device.h"

namespace qgrpo::cuda {

// LayerOps' SwiGLU.
void swiglu_forward(Device& device, TensorView y, ConstTensorView gate, ConstTensorView up);
void swiglu_backward(Device& device, TensorView dgate, TensorView dup, ConstTensorView dy,
                     ConstTensorView gate, ConstTensorView up);

}  // namespace qgrpo::cuda
