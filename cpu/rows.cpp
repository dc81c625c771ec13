#include "cpu/rows.h"

#include <algorithm>
#include <cstring>

#include "model/ops/embedding.h"
#include "model/ops/rope.h"

namespace qgrpo::cpu {
namespace {

// Elements that one task takes: some tens of microseconds of work.
constexpr std::int64_t kTaskElements = 16384;

void check_f32(const char* op, const char* name, ConstTensorView x, std::int64_t elements) {
  require(x.dtype == DType::f32 && x.elements() == elements, "{}: {} is {} {}, expected {} f32", op,
          name, dtype_name(x.dtype), x.shape.str(), elements);
}

// body(begin, end) over the elements of an element-wise operator. Where the cuts lie does not
// matter to the bits: the last vector of a range is padded, not computed differently.
template <typename Body>
void for_elements(LayerContext& context, std::int64_t n, Body&& body) {
  context.pool.parallel_for((n + kTaskElements - 1) / kTaskElements, [&](std::int64_t t, int) {
    body(t * kTaskElements, std::min(n, (t + 1) * kTaskElements));
  });
}

// body(row) over `rows` rows of `width`.
template <typename Body>
void for_rows(LayerContext& context, std::int64_t rows, std::int64_t width, Body&& body) {
  const std::int64_t step =
      std::max<std::int64_t>(1, kTaskElements / std::max<std::int64_t>(1, width));
  context.pool.parallel_for((rows + step - 1) / step, [&](std::int64_t t, int) {
    for (std::int64_t r = t * step; r < std::min(rows, (t + 1) * step); ++r) body(r);
  });
}

// body(begin, end) over chunks of columns, for sums over rows that keep the rows' order.
template <typename Body>
void for_columns(LayerContext& context, std::int64_t width, Body&& body) {
  constexpr std::int64_t kColumns = 128;
  context.pool.parallel_for((width + kColumns - 1) / kColumns, [&](std::int64_t t, int) {
    body(t * kColumns, std::min(width, (t + 1) * kColumns));
  });
}

}  // namespace

void scatter_add_rows(LayerContext& context, TensorView target, ConstTensorView values,
                      std::span<const std::int32_t> rows) {
  if (rows.empty()) return;
  const std::int64_t width = target.shape[1];
  check_f32("scatter_add_rows", "the target", target, target.shape[0] * width);
  check_f32("scatter_add_rows", "values", values, static_cast<std::int64_t>(rows.size()) * width);
  require_rows("scatter_add_rows", rows, target.shape[0]);
  for_columns(context, width, [&](std::int64_t begin, std::int64_t end) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      context.kernels.add(target.f32() + rows[i] * width + begin,
                          values.f32() + static_cast<std::int64_t>(i) * width + begin, end - begin);
    }
  });
}

void gather_rows(LayerContext& context, TensorView out, ConstTensorView x,
                 std::span<const std::int32_t> rows) {
  if (rows.empty()) return;
  const std::int64_t width = x.shape[1];
  check_f32("gather_rows", "x", x, x.shape[0] * width);
  check_f32("gather_rows", "out", out, static_cast<std::int64_t>(rows.size()) * width);
  require_rows("gather_rows", rows, x.shape[0]);
  for_rows(context, static_cast<std::int64_t>(rows.size()), width, [&](std::int64_t i) {
    std::copy_n(x.f32() + rows[static_cast<std::size_t>(i)] * width, width, out.f32() + i * width);
  });
}

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
