#include "model/ops/embedding.h"

#include "model/ops/error.h"

namespace qgrpo {

void require_rows(const char* op, std::span<const std::int32_t> rows, std::int64_t count) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    require(rows[i] >= 0 && rows[i] < count, "{}: entry {} names row {}, there are {}", op, i,
            rows[i], count);
  }
}

}  // namespace qgrpo
