#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/layer_context.h"
#include "model/ops/error.h"
#include "model/ops/tensor.h"

// How the operators that go row by row or element by element check their views and share the
// threads.
namespace qgrpo::cpu {

inline void check_f32(const char* op, const char* name, ConstTensorView x, std::int64_t elements) {
  require(x.dtype == DType::f32 && x.elements() == elements, "{}: {} is {} {}, expected {} f32", op,
          name, dtype_name(x.dtype), x.shape.str(), elements);
}

// Elements that one task takes: some tens of microseconds of work.
inline constexpr std::int64_t kTaskElements = 16384;

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

}  // namespace qgrpo::cpu
