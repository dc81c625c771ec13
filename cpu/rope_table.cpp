#include "cpu/rope_table.h"

#include <cmath>

#include "model/ops/rope.h"

namespace qgrpo::cpu {

void RopeTable::extend(int head_dim, double theta, std::int64_t positions) {
  if (head_dim / 2 != half_ || theta != theta_) {
    half_ = head_dim / 2;
    theta_ = theta;
    positions_ = 0;
  }
  if (positions <= positions_) return;
  positions = (positions + 255) / 256 * 256;
  cos_.resize(static_cast<std::size_t>(positions * half_));
  sin_.resize(cos_.size());
  std::vector<double> frequency(static_cast<std::size_t>(half_));
  for (std::int64_t i = 0; i < half_; ++i) {
    frequency[static_cast<std::size_t>(i)] = rope_frequency(i, head_dim, theta);
  }
  for (std::int64_t p = positions_; p < positions; ++p) {
    for (std::int64_t i = 0; i < half_; ++i) {
      const double angle = static_cast<double>(p) * frequency[static_cast<std::size_t>(i)];
      cos_[static_cast<std::size_t>(p * half_ + i)] = static_cast<float>(std::cos(angle));
      sin_[static_cast<std::size_t>(p * half_ + i)] = static_cast<float>(std::sin(angle));
    }
  }
  positions_ = positions;
}

}  // namespace qgrpo::cpu
