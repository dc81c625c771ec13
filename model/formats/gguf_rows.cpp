#include "model/formats/gguf_rows.h"

#include <cstring>

#include "model/ops/error.h"

namespace qgrpo::model {

void move_interleaved_rows(std::span<std::byte> to, std::span<const std::byte> from,
                           std::int64_t rows, std::int64_t heads, Interleave direction) {
  require(heads > 0 && rows % (2 * heads) == 0 && to.size() == from.size(),
          "internal error: {} rows in {} heads", rows, heads);
  const std::size_t row = from.size() / static_cast<std::size_t>(rows);
  const std::int64_t dim = rows / heads;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t i = r % dim;
    const std::int64_t there = r - i + 2 * (i % (dim / 2)) + i / (dim / 2);
    const auto in_order = static_cast<std::size_t>(r) * row;
    const auto interleaved = static_cast<std::size_t>(there) * row;
    if (direction == Interleave::apply) {
      std::memcpy(to.data() + interleaved, from.data() + in_order, row);
    } else {
      std::memcpy(to.data() + in_order, from.data() + interleaved, row);
    }
  }
}

}  // namespace qgrpo::model
