#include "cpu/rmsnorm.h"

#include "cpu/row_loops.h"

namespace qgrpo::cpu {

void rmsnorm_forward(LayerContext& context, TensorView y, TensorView rstd, ConstTensorView x,
                     ConstTensorView weight, float eps) {
  const std::int64_t n = weight.elements();
  const std::int64_t rows = rstd.elements();
  check_f32("rmsnorm_forward", "x", x, rows * n);
  check_f32("rmsnorm_forward", "y", y, rows * n);
  for_rows(context, rows, n, [&](std::int64_t r) {
    context.kernels.rmsnorm_forward(y.f32() + r * n, rstd.f32() + r, x.f32() + r * n, weight.f32(),
                                    n, eps);
  });
}

void rmsnorm_backward(LayerContext& context, TensorView dx, TensorView dweight, ConstTensorView dy,
                      ConstTensorView x, ConstTensorView weight, ConstTensorView rstd) {
  const std::int64_t n = weight.elements();
  const std::int64_t rows = rstd.elements();
  check_f32("rmsnorm_backward", "x", x, rows * n);
  check_f32("rmsnorm_backward", "dy", dy, rows * n);
  check_f32("rmsnorm_backward", "dx", dx, rows * n);
  if (dweight) {
    check_f32("rmsnorm_backward", "dweight", dweight, n);
    for_columns(context, n, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = 0; r < rows; ++r) {
        context.kernels.rmsnorm_dweight(dweight.f32() + begin, dy.f32() + r * n + begin,
                                        x.f32() + r * n + begin, rstd.f32()[r], end - begin);
      }
    });
  }
  for_rows(context, rows, n, [&](std::int64_t r) {
    context.kernels.rmsnorm_backward(dx.f32() + r * n, dy.f32() + r * n, x.f32() + r * n,
                                     weight.f32(), rstd.f32()[r], n);
  });
}

}  // namespace qgrpo::cpu
