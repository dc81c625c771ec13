#include "cpu/swiglu.h"

#include "cpu/row_loops.h"

namespace qgrpo::cpu {

void swiglu_forward(LayerContext& context, TensorView y, ConstTensorView gate, ConstTensorView up) {
  const std::int64_t n = y.elements();
  check_f32("swiglu_forward", "gate", gate, n);
  check_f32("swiglu_forward", "up", up, n);
  for_elements(context, n, [&](std::int64_t i, std::int64_t end) {
    context.kernels.swiglu_forward(y.f32() + i, gate.f32() + i, up.f32() + i, end - i);
  });
}

void swiglu_backward(LayerContext& context, TensorView dgate, TensorView dup, ConstTensorView dy,
                     ConstTensorView gate, ConstTensorView up) {
  const std::int64_t n = dy.elements();
  check_f32("swiglu_backward", "gate", gate, n);
  check_f32("swiglu_backward", "up", up, n);
  check_f32("swiglu_backward", "dgate", dgate, n);
  check_f32("swiglu_backward", "dup", dup, n);
  for_elements(context, n, [&](std::int64_t i, std::int64_t end) {
    context.kernels.swiglu_backward(dgate.f32() + i, dup.f32() + i, dy.f32() + i, gate.f32() + i,
                                    up.f32() + i, end - i);
  });
}

}  // namespace qgrpo::cpu
