#include "cuda/swiglu.h"

#include "cuda/kernels/swiglu.h"
#include "cuda/views.h"

namespace qgrpo::cuda {

void swiglu_forward(Device& device, TensorView y, ConstTensorView gate, ConstTensorView up) {
  const std::int64_t n = y.elements();
  QGRPO_CUDA(kernels::swiglu_forward(device.handle(), halves("swiglu", "y", y, n),
                                     halves("swiglu", "gate", gate, n),
                                     halves("swiglu", "up", up, n), n));
}

void swiglu_backward(Device& device, TensorView dgate, TensorView dup, ConstTensorView dy,
                     ConstTensorView gate, ConstTensorView up) {
  const char* op = "swiglu_backward";
  const std::int64_t n = dy.elements();
  QGRPO_CUDA(kernels::swiglu_backward(device.handle(), halves(op, "dgate", dgate, n),
                                      halves(op, "dup", dup, n), halves(op, "dy", dy, n),
                                      halves(op, "gate", gate, n), halves(op, "up", up, n), n));
}

}  // namespace qgrpo::cuda
