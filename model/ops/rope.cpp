#include "model/ops/rope.h"

#include <algorithm>

#include "model/ops/error.h"

namespace qgrpo {

RopeFrequencies rope_frequencies(std::int64_t head_dim, double theta) {
  RopeFrequencies out;
  for (std::int64_t i = 0; i < head_dim / 2; ++i) {
    out.per_pair.push_back(
        std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim)));
  }
  return out;
}

std::int64_t rope_table_positions(const char* op, std::span<const std::int32_t> positions) {
  const auto [least, most] = std::minmax_element(positions.begin(), positions.end());
  require(*least >= 0, "{}: position {} is negative", op, *least);
  return std::int64_t{*most} + 1;
}

}  // namespace qgrpo
