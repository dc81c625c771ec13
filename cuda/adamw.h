#pragma once

#include <span>

#include "cuda/device/device.h"
#include "cuda/kernels/adamw.h"
#include "model/ops/adamw.h"

namespace qgrpo::cuda {

// TrainOps' optimizer operators: AdamW and the gradients' norm, the same bits as the CPU backend's
// (float32 operations in the same order, each rounded by itself; squares in double in the CPU's
// order, whatever the device).
//
// bitsandbytes' CUDA kernels take another order than its CPU path and this:
//   step' = -lr * correction2 / correction1
//   p     = p + step' * m / (sqrt(v) + correction2 * eps)
// the same in exact arithmetic; the decay p *= 1 - lr * weight_decay after the update instead of
// before it (lr * weight_decay of the update apart); approximate divisions and powers; and a first
// moment whose code would change its sign takes the neighbouring code. Here the nearest code is
// taken, and weights decay first as in torch.optim.AdamW.
class OptimizerOps {
 public:
  // Copies the 8-bit maps to the device, 4 KB.
  explicit OptimizerOps(Device& device);

  // param, m, v (n) f32 in place, grad (n) f32.
  void adamw_32bit(Device& device, TensorView param, TensorView m, TensorView v,
                   ConstTensorView grad, const AdamWParams& params);
  // param (n) f32, m, v (n) u8, absmax_m, absmax_v (ceil(n / 256)) f32 in place, grad (n) f32.
  void adamw_8bit(Device& device, TensorView param, TensorView m, TensorView v, TensorView absmax_m,
                  TensorView absmax_v, ConstTensorView grad, const AdamWParams& params);
  // Sum of the squares of all elements of f32 tensors: each tensor's sum, then those in order. Two
  // launches and one wait for the device, whatever the number of tensors.
  double sum_of_squares(Device& device, std::span<const ConstTensorView> tensors);

 private:
  DeviceMemory maps_;
  DeviceArray<kernels::SquaresTensor> tensors_{Slot::squares_table};
};

}  // namespace qgrpo::cuda
