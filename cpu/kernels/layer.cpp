#include "cpu/kernels/layer.h"
#include "cpu/kernels/row_loops.h"

namespace qgrpo::cpu::QGRPO_ISA {

const LayerKernels& layer_kernel_table() {
  static constexpr LayerKernels table = {
      .pack_rows = pack_rows,
      .pack_transposed = pack_transposed,
      .attention_rows = attention_rows,
      .attention_grad_rows = attention_grad_rows,
      .combine = combine,
      .dot = dot,
      .rmsnorm_forward = rmsnorm_forward,
      .rmsnorm_backward = rmsnorm_backward,
      .rmsnorm_dweight = rmsnorm_dweight,
      .rope = rope,
      .swiglu_forward = swiglu_forward,
      .swiglu_backward = swiglu_backward,
      .add = add,
      .max_finite = max_finite,
      .exp_sum = exp_sum,
      .exp_values = exp_values,
  };
  return table;
}

}  // namespace qgrpo::cpu::QGRPO_ISA
