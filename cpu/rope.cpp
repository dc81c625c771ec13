#include "cpu/rope.h"

#include "cpu/row_loops.h"
#include "model/ops/rope.h"

namespace qgrpo::cpu {

void rope(LayerContext& context, TensorView x, std::int32_t head_dim, double theta,
          std::span<const std::int32_t> positions, float sign) {
  if (positions.empty()) return;
  const auto rows = static_cast<std::int64_t>(positions.size());
  require(head_dim > 0 && head_dim % 2 == 0, "rope: head size {} must be even", head_dim);
  require(x.dtype == DType::f32 && x.elements() % (rows * head_dim) == 0,
          "rope: x is {} {} for {} tokens with heads of {}", dtype_name(x.dtype), x.shape.str(),
          rows, head_dim);
  const std::int64_t width = x.elements() / rows;
  context.rope.extend(head_dim, theta, rope_table_positions("rope", positions));
  for_rows(context, rows, width, [&](std::int64_t r) {
    const std::int64_t p = positions[static_cast<std::size_t>(r)];
    for (std::int64_t h = 0; h < width; h += head_dim) {
      context.kernels.rope(x.f32() + r * width + h, context.rope.cos(p), context.rope.sin(p),
                           head_dim / 2, sign);
    }
  });
}

}  // namespace qgrpo::cpu
