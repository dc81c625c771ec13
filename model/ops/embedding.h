#pragma once

#include <cstdint>
#include <span>

// What the embedding's and the other operators by row index take.
namespace qgrpo {

// Throws Error naming `op` unless all rows are in [0, count).
void require_rows(const char* op, std::span<const std::int32_t> rows, std::int64_t count);

}  // namespace qgrpo
