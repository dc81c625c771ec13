#include "cpu/embedding.h"

#include <algorithm>

#include "cpu/row_loops.h"
#include "model/ops/embedding.h"

namespace qgrpo::cpu {

void embedding_rows(TensorView y, const CpuWeight& table, std::span<const std::int32_t> tokens,
                    ThreadPool& pool) {
  const std::int64_t width = table.cols();
  require(
      y.dtype == DType::f32 && y.shape == Shape({static_cast<std::int64_t>(tokens.size()), width}),
      "embedding output {} {}, expected f32 [{}, {}]", dtype_name(y.dtype), y.shape.str(),
      tokens.size(), width);
  for (const std::int32_t token : tokens) {
    require(token >= 0 && token < table.rows(), "token id {} is outside the vocabulary of {}",
            token, table.rows());
  }
  pool.parallel_for(static_cast<std::int64_t>(tokens.size()), [&](std::int64_t t, int) {
    table.unpack_row(y.f32() + t * width, tokens[static_cast<std::size_t>(t)]);
  });
}

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

}  // namespace qgrpo::cpu
