#include "cuda/embedding.h"

#include <numeric>

#include "cuda/kernels/embedding.h"
#include "cuda/views.h"
#include "model/ops/embedding.h"

namespace qgrpo::cuda {

void Embedding::forward(Device& device, TensorView y, const Weight& table,
                        std::span<const std::int32_t> tokens) {
  const CudaWeight& weight = cuda_weight(table);
  require(weight.format() != WeightFormat::nf4, "embedding: an nf4 table is not supported");
  require_rows("embedding", tokens, weight.rows());
  const auto count = static_cast<std::int64_t>(tokens.size());
  if (count == 0) return;
  QGRPO_CUDA(kernels::gather_rows(
      device.handle(), halves("embedding", "y", y, count * weight.cols()), weight.dense(device),
      tokens_.upload(device, tokens), count, weight.cols()));
}

void Embedding::backward(Device& device, TensorView dtable, ConstTensorView dy,
                         std::span<const std::int32_t> tokens) {
  require(dtable.dtype == DType::f32, "embedding_backward: dtable is {}, expected f32",
          dtype_name(dtable.dtype));
  add(device, "embedding_backward", dtable, dy, tokens);
}

void Embedding::gather_rows(Device& device, TensorView out, ConstTensorView x,
                            std::span<const std::int32_t> rows) {
  if (rows.empty()) return;
  const auto count = static_cast<std::int64_t>(rows.size());
  const std::int64_t width = x.shape[1];
  require_rows("gather_rows", rows, x.shape[0]);
  QGRPO_CUDA(kernels::gather_rows(device.handle(), halves("gather_rows", "out", out, count * width),
                                  halves("gather_rows", "x", x, x.shape[0] * width),
                                  rows_.upload(device, rows), count, width));
}

void Embedding::scatter_add_rows(Device& device, TensorView x, ConstTensorView values,
                                 std::span<const std::int32_t> rows) {
  add(device, "scatter_add_rows", x, values, rows);
}

void Embedding::add(Device& device, const char* op, TensorView x, ConstTensorView values,
                    std::span<const std::int32_t> rows) {
  if (rows.empty()) return;
  require(x.shape.rank() == 2, "{}: x is {}, expected a matrix", op, x.shape.str());
  const auto count = static_cast<std::int64_t>(rows.size());
  const std::int64_t width = x.shape[1];
  require_rows(op, rows, x.shape[0]);
  require_view(op, "x", x, x.dtype == DType::f32 ? DType::f32 : DType::bf16, x.shape.elements());
  const auto* from = static_cast<const kernels::bf16*>(
      require_view(op, "values", values, DType::bf16, count * width));
  // Sorted by row, in their order within it.
  std::vector<std::int32_t> index(rows.size());
  std::iota(index.begin(), index.end(), 0);
  const auto row_of = [&](std::int32_t i) { return rows[static_cast<std::size_t>(i)]; };
  std::stable_sort(index.begin(), index.end(),
                   [&](std::int32_t a, std::int32_t b) { return row_of(a) < row_of(b); });
  std::vector<std::int32_t> distinct, first;
  for (std::size_t i = 0; i < index.size(); ++i) {
    if (!distinct.empty() && distinct.back() == row_of(index[i])) continue;
    distinct.push_back(row_of(index[i]));
    first.push_back(static_cast<std::int32_t>(i));
  }
  first.push_back(static_cast<std::int32_t>(count));
  const auto list = [&](DeviceArray<std::int32_t>& array, const std::vector<std::int32_t>& v) {
    return array.upload(device, std::span<const std::int32_t>(v));
  };
  const auto launch = [&](auto* to) {
    return kernels::scatter_add_rows(device.handle(), to, from, list(row_, distinct),
                                     list(first_, first), list(index_, index),
                                     static_cast<std::int64_t>(distinct.size()), width);
  };
  if (x.dtype == DType::f32) {
    QGRPO_CUDA(launch(x.f32()));
  } else {
    QGRPO_CUDA(launch(static_cast<kernels::bf16*>(x.data)));
  }
}

}  // namespace qgrpo::cuda
