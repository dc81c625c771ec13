#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "train/data/files/parquet_encodings.h"
#include "train/data/files/parquet_footer.h"

namespace qgrpo::train {

// A column in a row group. Entry i has its levels, and where its definition level is the column's, the next of the
// values.
struct ParquetColumn {
  std::vector<std::uint8_t> repetition;  // by entry; empty: all are 0
  std::vector<std::uint8_t> definition;  // by entry; empty: all are there
  std::vector<ParquetValue> values;
  std::size_t entries = 0;
  std::deque<std::string> pages;  // unpacked, with what the texts lie in
};

// Unpacks and decodes a column's pages: PLAIN, dictionaries, RLE, the DELTA encodings and BYTE_STREAM_SPLIT. `node`
// is the column; `name` its name. Throws Error naming `where` and the column where the pages contradict each other,
// the chunk or the column, have an encoding that is not read, or take more than `most` bytes.
ParquetColumn read_parquet_column(const ParquetChunk& chunk, const ParquetNode& node,
                                  const std::string& where, const std::string& name,
                                  std::size_t most);

}  // namespace qgrpo::train
