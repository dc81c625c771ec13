#include "model/ops/rope.h"

#include <algorithm>

#include "model/ops/error.h"

namespace qgrpo {

std::int64_t rope_table_positions(const char* op, std::span<const std::int32_t> positions) {
  const auto [least, most] = std::minmax_element(positions.begin(), positions.end());
  require(*least >= 0, "{}: position {} is negative", op, *least);
  return std::int64_t{*most} + 1;
}

}  // namespace qgrpo
