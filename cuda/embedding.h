#pragma once

#include <span>

#include "cuda/device/device.h"
#include "cuda/weight.h"

namespace qgrpo::cuda {

// LayerOps' embedding and its other operators by row index.
class Embedding {
 public:
  void forward(Device& device, TensorView y, const Weight& table,
               std::span<const std::int32_t> tokens);
  void backward(Device& device, TensorView dtable, ConstTensorView dy,
                std::span<const std::int32_t> tokens);
  void gather_rows(Device& device, TensorView out, ConstTensorView x,
                   std::span<const std::int32_t> rows);
  void scatter_add_rows(Device& device, TensorView x, ConstTensorView values,
                        std::span<const std::int32_t> rows);

 private:
  // x[rows[i]] += values[i] in the order of i, float32 sums, rounded once where x is bf16. x (N, H)
  // bf16 or f32, values (rows.size(), H) bf16. A block of threads adds all values of one row: the
  // host sorts them by row. Errors name `op`.
  void add(Device& device, const char* op, TensorView x, ConstTensorView values,
           std::span<const std::int32_t> rows);

  DeviceArray<std::int32_t> tokens_{Slot::tokens};
  DeviceArray<std::int32_t> rows_{Slot::gather};
  DeviceArray<std::int32_t> row_{Slot::scatter_rows};     // the distinct rows
  DeviceArray<std::int32_t> first_{Slot::scatter_first};  // where each one's values begin in index_
  DeviceArray<std::int32_t> index_{Slot::scatter_index};
};

}  // namespace qgrpo::cuda
