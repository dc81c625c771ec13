#pragma once

#include <span>

#include "cuda/device/device.h"
#include "model/ops/rope.h"

namespace qgrpo::cuda {

// LayerOps::rope_forward (sign 1) and rope_backward (-1).
class Rope {
 public:
  void apply(Device& device, TensorView x, const RopeFrequencies& rope,
             std::span<const std::int32_t> positions, float sign);

  // The table of cosines and sines, (positions, D/2) float2 on the device: made on the host by
  // rope_turn. It lies in Slot::rope_table, grows with the positions
  // (rope_table_rows) and is made anew when the slots move or another model asks.
  const float2* table(Device& device, const RopeFrequencies& rope, std::int64_t positions);

 private:
  RopeFrequencies rope_;
  std::int64_t rows_ = 0;
  float2* table_ = nullptr;
  std::uint64_t generation_ = 0;  // of the slot when the table was made
  DeviceArray<std::int32_t> positions_{Slot::rope_positions};
};

}  // namespace qgrpo::cuda
