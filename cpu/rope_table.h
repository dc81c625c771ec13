#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/ops/rope.h"

namespace qgrpo::cpu {

// The rotary embedding's cosines and sines, (positions, D / 2), for one model's
// frequencies, extended when a later position comes up.
class RopeTable {
 public:
  void extend(const RopeFrequencies& rope, std::int64_t positions);
  const float* cos(std::int64_t position) const {
    return cos_.data() + static_cast<std::size_t>(position * half_);
  }
  const float* sin(std::int64_t position) const {
    return sin_.data() + static_cast<std::size_t>(position * half_);
  }

 private:
  RopeFrequencies rope_;
  std::int64_t half_ = 0;
  std::int64_t positions_ = 0;
  std::vector<float> cos_;
  std::vector<float> sin_;
};

}  // namespace qgrpo::cpu
