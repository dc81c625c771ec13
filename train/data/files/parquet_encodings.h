#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "train/data/files/parquet_footer.h"

// The encodings of a Parquet page's values (apache/parquet-format, Encodings.md). Each takes what it reads off the
// front of `in` and throws Error, a text without the file's name, where that is too short or impossible.
namespace qgrpo::train {

// A value of a column: a text, or the bits of a whole number, of a double or of a boolean (0, 1).
struct ParquetValue {
  std::string_view text;
  std::uint64_t bits = 0;
};

// RLE and bit-packing mixed: `count` values of `width` bits (at most 32).
std::vector<std::uint32_t> decode_hybrid(std::string_view& in, int width, std::size_t count);

// DELTA_BINARY_PACKED; at most `most` values.
std::vector<std::uint64_t> decode_delta(std::string_view& in, std::size_t most);

// How the values lie that follow each other.
struct ParquetStorage {
  ParquetType type = ParquetType::bytes;
  ParquetMeaning meaning = ParquetMeaning::other;  // of an int32 whether it has a sign
  std::size_t width = 0;                           // of `fixed`
};

// PLAIN: `count` values; texts are views into `in`.
void decode_plain(std::string_view& in, const ParquetStorage& storage, std::size_t count,
                  std::vector<ParquetValue>& out);
// BYTE_STREAM_SPLIT of `count` numbers.
void decode_split(std::string_view& in, const ParquetStorage& storage, std::size_t count,
                  std::vector<ParquetValue>& out);
// DELTA_BINARY_PACKED of `count` whole numbers.
void decode_delta_numbers(std::string_view& in, const ParquetStorage& storage, std::size_t count,
                          std::vector<ParquetValue>& out);
// DELTA_LENGTH_BYTE_ARRAY of `count` texts, views into `in`.
void decode_delta_lengths(std::string_view& in, std::size_t count, std::vector<ParquetValue>& out);
// DELTA_BYTE_ARRAY of `count` texts, each the beginning of the one before with a new end. They are put into
// `store`, at most `most` bytes.
void decode_delta_texts(std::string_view& in, std::size_t count, std::size_t most,
                        std::deque<std::string>& store, std::vector<ParquetValue>& out);

}  // namespace qgrpo::train
