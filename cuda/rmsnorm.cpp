#include "cuda/rmsnorm.h"

#include "cuda/kernels/rmsnorm.h"
#include "cuda/sizes/backward.h"
#include "cuda/views.h"

namespace qgrpo::cuda {

using kernels::bf16;

void rmsnorm_forward(Device& device, TensorView y, TensorView rstd, ConstTensorView x,
                     ConstTensorView weight, float eps) {
  const std::int64_t width = weight.elements();
  const std::int64_t rows = rstd.elements();
  QGRPO_CUDA(kernels::rmsnorm_forward(
      device.handle(), halves("rmsnorm", "y", y, rows * width),
      floats("rmsnorm", "rstd", rstd, rows), halves("rmsnorm", "x", x, rows * width),
      floats("rmsnorm", "weight", weight, width), rows, width, eps));
}

void rmsnorm_backward(Device& device, TensorView dx, TensorView dweight, ConstTensorView dy,
                      ConstTensorView x, ConstTensorView weight, ConstTensorView rstd) {
  const char* op = "rmsnorm_backward";
  const std::int64_t width = weight.elements();
  const std::int64_t rows = rstd.elements();
  const bf16* dys = halves(op, "dy", dy, rows * width);
  const bf16* xs = halves(op, "x", x, rows * width);
  const float* rstds = floats(op, "rstd", rstd, rows);
  if (dweight) {
    auto* partials = device.scratch<float>(
        Slot::partials, static_cast<std::int64_t>(partial_sums_bytes(rows, width) / sizeof(float)));
    QGRPO_CUDA(kernels::rmsnorm_dweight(device.handle(), floats(op, "dweight", dweight, width), dys,
                                        xs, rstds, rows, width, partials));
  }
  QGRPO_CUDA(kernels::rmsnorm_backward(device.handle(), halves(op, "dx", dx, rows * width), dys, xs,
                                       floats(op, "weight", weight, width), rstds, rows, width));
}

}  // namespace qgrpo::cuda
