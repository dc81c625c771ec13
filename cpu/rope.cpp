#include "cpu/rope.h"

#include "cpu/row_loops.h"
#include "model/ops/rope.h"

namespace qgrpo::cpu {

void rope(LayerContext& context, TensorView x, const RopeFrequencies& rope,
          std::span<const std::int32_t> positions, float sign) {
  if (positions.empty()) return;
  const auto rows = static_cast<std::int64_t>(positions.size());
  const std::int64_t head_dim = rope.head_dim();
  require(head_dim > 0, "rope: heads of size 0");
  require(x.dtype == DType::f32 && x.elements() % (rows * head_dim) == 0,
          "rope: x is {} {} for {} tokens with heads of {}", dtype_name(x.dtype), x.shape.str(),
          rows, head_dim);
  const std::int64_t width = x.elements() / rows;
  context.rope.extend(rope, rope_table_positions("rope", positions));
  for_rows(context, rows, width, [&](std::int64_t r) {
    const std::int64_t p = positions[static_cast<std::size_t>(r)];
    for (std::int64_t h = 0; h < width; h += head_dim) {
      context.kernels.rope(x.f32() + r * width + h, context.rope.cos(p), context.rope.sin(p),
                           static_cast<int>(head_dim / 2), sign);
    }
  });
}

}  // namespace qgrpo::cpu
