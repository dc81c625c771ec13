#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

// What a Parquet file says of itself in its footer (apache/parquet-format, README and parquet.thrift).
namespace qgrpo::train {

// How the values of a column are stored. The numbers are the file's.
enum class ParquetType {
  boolean = 0,
  int32 = 1,
  int64 = 2,
  int96 = 3,
  float32 = 4,
  float64 = 5,
  bytes = 6,
  fixed = 7
};

// What the values of a column mean. other: none that JSON has (dates, decimals, bytes that are no text).
enum class ParquetMeaning { boolean, whole, unsigned_whole, number, text, other };

enum class ParquetRepetition { required = 0, optional = 1, repeated = 2 };

// A column, or a group of columns.
struct ParquetNode {
  std::string name;
  ParquetRepetition repetition = ParquetRepetition::required;
  bool list = false;                  // annotated as a list
  std::vector<ParquetNode> children;  // of a group, which has some
  // The levels at which the node is there: of optional and repeated nodes from the root to it, of the
  // repeated ones among them.
  int definition = 0;
  int repeated = 0;
  // Of a column:
  ParquetType type = ParquetType::bytes;
  ParquetMeaning meaning = ParquetMeaning::other;
  std::size_t width = 0;   // bytes of a `fixed` value
  std::size_t column = 0;  // its place among the columns

  bool is_column() const { return children.empty(); }
};

enum class ParquetCodec { none = 0, snappy = 1, gzip = 2, zstd = 6 };

// The bytes of a column in a row group.
struct ParquetChunk {
  ParquetCodec codec = ParquetCodec::none;
  std::size_t values = 0;  // nulls and empty lists counted
  std::string_view bytes;  // its pages
};

struct ParquetRowGroup {
  std::size_t rows = 0;
  std::vector<ParquetChunk> columns;
};

struct ParquetFooter {
  ParquetNode root;
  std::vector<std::string> columns;  // their names from the root, with dots
  std::vector<ParquetRowGroup> row_groups;
};

// Reads the footer of a whole file; views are into it. Throws Error naming `where`: no Parquet file, cut off,
// encrypted, a description that contradicts itself or the file's length, a packing that is not read.
ParquetFooter read_parquet_footer(std::string_view file, const std::string& where);

// The header of a page.
struct ParquetPage {
  enum class Kind { data = 0, index = 1, dictionary = 2, data_2 = 3 };
  Kind kind = Kind::data;
  std::size_t unpacked = 0;  // bytes
  std::size_t packed = 0;
  std::size_t values = 0;
  int encoding = 0;
  int definition_encoding = 3;
  int repetition_encoding = 3;
  std::size_t definition_bytes = 0;  // of data_2, before what may be packed
  std::size_t repetition_bytes = 0;
  bool is_packed = true;
};

// Reads the header that `bytes` begins with, and takes it off.
ParquetPage read_parquet_page(std::string_view& bytes, const std::string& where);

}  // namespace qgrpo::train
