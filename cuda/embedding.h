#pragma once

#include <span>

#include "cuda/device.h"

namespace qgrpo::cuda {

// Rows added to rows of a larger matrix, where several may meet in one: LayerOps::scatter_add_rows,
// and the embedding's gradient.
class ScatterRows {
 public:
  // x[rows[i]] += values[i] in the order of i, float32 sums, rounded once where x is bf16. x (N, H)
  // bf16 or f32, values (rows.size(), H) bf16. A block of threads adds all values of one row: the
  // host sorts them by row. Errors name `op`.
  void add(Device& device, const char* op, TensorView x, ConstTensorView values,
           std::span<const std::int32_t> rows);

 private:
  DeviceArray<std::int32_t> row_{Slot::scatter_rows};     // the distinct rows
  DeviceArray<std::int32_t> first_{Slot::scatter_first};  // where each one's values begin in index_
  DeviceArray<std::int32_t> index_{Slot::scatter_index};
};

}  // namespace qgrpo::cuda
