#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace qgrpo::train {

// Calls `each` with every row of a Parquet file as a JSON object on one line, and its number from 1. Columns are
// booleans, whole numbers, numbers (NaN and infinities are null, which is all that JSON has), texts, groups and lists
// of these, in any nesting (a map is a list of {"key", "value"}); packed with Snappy, gzip, zstd or not at all.
// Columns whose values JSON cannot say (dates, decimals, bytes that are no text) are left out; their names, from the
// root with dots, are returned. Throws Error naming `where`: no whole Parquet file; a packing or an encoding that is
// not read (LZO, LZ4, Brotli; encryption); a file that contradicts itself; rows of more than `most` bytes together,
// as JSON, or of a row group unpacked; no rows.
std::vector<std::string> read_parquet(
    std::string_view file, const std::string& where, std::size_t most,
    const std::function<void(std::string_view json, std::size_t row)>& each);

}  // namespace qgrpo::train
