#pragma once

#include <span>

#include "cuda/device.h"

namespace qgrpo::cuda {

// LayerOps::rope_forward (sign 1) and rope_backward (-1). The table of cosines and sines is made on
// the host in double, rounded to float32, and grows with the positions.
class Rope {
 public:
  void apply(Device& device, TensorView x, std::int32_t head_dim, double theta,
             std::span<const std::int32_t> positions, float sign);

 private:
  void extend(Device& device, std::int32_t head_dim, double theta, std::int64_t positions);

  std::int32_t head_dim_ = 0;
  double theta_ = 0.0;
  std::int64_t rows_ = 0;
  DeviceMemory table_;  // (rows, D/2) of (cos, sin)
  DeviceArray<std::int32_t> positions_;
};

}  // namespace qgrpo::cuda
