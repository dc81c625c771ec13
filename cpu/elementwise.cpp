#include "cpu/elementwise.h"

#include <cstring>

#include "cpu/row_loops.h"

namespace qgrpo::cpu {

void add(LayerContext& context, TensorView y, ConstTensorView x) {
  const std::int64_t n = y.elements();
  check_f32("add", "x", x, n);
  check_f32("add", "y", y, n);
  for_elements(context, n, [&](std::int64_t i, std::int64_t end) {
    context.kernels.add(y.f32() + i, x.f32() + i, end - i);
  });
}

void copy(LayerContext& context, TensorView y, ConstTensorView x) {
  require(x.dtype == y.dtype && x.elements() == y.elements(), "copy: from {} {} to {} {}",
          dtype_name(x.dtype), x.shape.str(), dtype_name(y.dtype), y.shape.str());
  const std::int64_t size = static_cast<std::int64_t>(dtype_size(x.dtype));
  for_elements(context, y.elements(), [&](std::int64_t i, std::int64_t end) {
    std::memcpy(static_cast<std::byte*>(y.data) + i * size,
                static_cast<const std::byte*>(x.data) + i * size,
                static_cast<std::size_t>((end - i) * size));
  });
}

void zero(LayerContext& context, TensorView y) {
  const std::int64_t size = static_cast<std::int64_t>(dtype_size(y.dtype));
  for_elements(context, y.elements(), [&](std::int64_t i, std::int64_t end) {
    std::memset(static_cast<std::byte*>(y.data) + i * size, 0,
                static_cast<std::size_t>((end - i) * size));
  });
}

}  // namespace qgrpo::cpu
