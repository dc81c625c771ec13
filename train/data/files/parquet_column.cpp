#include "train/data/files/parquet_column.h"

#include <bit>
#include <cstring>

#include "model/io/bytes.h"
#include "model/ops/error.h"
#include "train/data/files/snappy.h"
#include "train/data/files/unpack.h"

namespace qgrpo::train {
namespace {

// parquet.thrift: Encoding
enum : int {
  kPlain = 0,
  kPlainDictionary = 2,
  kRle = 3,
  kDelta = 5,
  kDeltaLengths = 6,
  kDeltaTexts = 7,
  kDictionary = 8,
  kSplit = 9
};

class ColumnReader {
 public:
  ColumnReader(const ParquetChunk& chunk, const ParquetNode& node, const std::string& where,
               const std::string& name, std::size_t most)
      : chunk_(chunk),
        node_(node),
        where_(where),
        name_(name),
        most_(most),
        storage_{node.type, node.meaning, node.width} {}

  ParquetColumn read() {
    use(chunk_.values, sizeof(ParquetValue) + 2);
    std::string_view rest = chunk_.bytes;
    while (out_.entries < chunk_.values) {
      require(!rest.empty(),
              "{}: the Parquet file is damaged: its column \"{}\" has {} values, expected {}",
              where_, name_, out_.entries, chunk_.values);
      const ParquetPage page = read_parquet_page(rest, where_);
      const std::string_view bytes = rest.substr(0, page.packed);
      rest.remove_prefix(page.packed);
      try {
        if (page.kind == ParquetPage::Kind::dictionary) read_dictionary(page, bytes);
        if (page.kind == ParquetPage::Kind::data) read_data(page, bytes);
        if (page.kind == ParquetPage::Kind::data_2) read_data_2(page, bytes);
      } catch (const Error& error) {
        fail("{}: the Parquet file is damaged: in its column \"{}\" {}", where_, name_,
             error.what());
      }
    }
    return std::move(out_);
  }

 private:
  // Counts memory.
  void use(std::size_t count, std::size_t bytes) {
    require(count <= (most_ - used_) / bytes,
            "{}: unpacked it has more than {} in a row group, expected at most "
            "that (half of the free memory)",
            where_, io::format_bytes(most_));
    used_ += count * bytes;
  }

  // The page's bytes, which this column keeps.
  std::string_view unpacked(std::string_view packed, std::size_t size) {
    use(size, 1);
    if (chunk_.codec == ParquetCodec::none) {
      require(size == packed.size(), "a page has {} bytes, expected {}", packed.size(), size);
      return packed;
    }
    if (chunk_.codec == ParquetCodec::snappy) {
      auto text = unsnappy(packed, size);
      require(text.has_value(), "a page is no block of Snappy's with {} bytes", size);
      out_.pages.push_back(std::move(*text));
    } else if (size == 0) {
      out_.pages.emplace_back();
    } else {
      const Packing packing = chunk_.codec == ParquetCodec::gzip ? Packing::gzip : Packing::zstd;
      out_.pages.push_back(unpack(std::string(packed), packing, "a page", size));
      require(out_.pages.back().size() == size, "a page has {} bytes, expected {}",
              out_.pages.back().size(), size);
    }
    return out_.pages.back();
  }

  void read_dictionary(const ParquetPage& page, std::string_view packed) {
    require(page.encoding == kPlain || page.encoding == kPlainDictionary,
            "a dictionary has the encoding {}", page.encoding);
    require(page.values <= page.unpacked + 1 || node_.type == ParquetType::boolean,
            "a dictionary has {} values in {} bytes", page.values, page.unpacked);
    use(page.values, sizeof(ParquetValue));
    std::string_view bytes = unpacked(packed, page.unpacked);
    dictionary_.clear();
    decode_plain(bytes, storage_, page.values, dictionary_);
  }

  static int width_of(int level) {
    return static_cast<int>(std::bit_width(static_cast<unsigned>(level)));
  }

  // The levels of a page; how many of its entries have a value.
  void add_levels(std::string_view bytes, int highest, std::size_t count,
                  std::vector<std::uint8_t>& levels) const {
    for (const std::uint32_t level : decode_hybrid(bytes, width_of(highest), count)) {
      require(level <= static_cast<std::uint32_t>(highest), "a level is {}, expected at most {}",
              level, highest);
      levels.push_back(static_cast<std::uint8_t>(level));
    }
  }

  std::size_t values_in_page(std::size_t entries) const {
    if (node_.definition == 0) return entries;
    std::size_t count = 0;
    for (std::size_t i = out_.definition.size() - entries; i < out_.definition.size(); ++i)
      count += out_.definition[i] == node_.definition ? 1 : 0;
    return count;
  }

  void begin_page(const ParquetPage& page) const {
    require(page.values <= chunk_.values - out_.entries,
            "the pages have more than the {} values of the column", chunk_.values);
    require(node_.definition < 256, "the levels are too many");
  }

  void read_data(const ParquetPage& page, std::string_view packed) {
    begin_page(page);
    require((node_.definition == 0 || page.definition_encoding == kRle) &&
                (node_.repeated == 0 || page.repetition_encoding == kRle),
            "the levels have an encoding that is not read");
    std::string_view bytes = unpacked(packed, page.unpacked);
    const auto levels = [&](int highest, std::vector<std::uint8_t>& to) {
      if (highest == 0) return;
      std::uint32_t length = 0;
      require(bytes.size() >= 4, "a page ends early");
      std::memcpy(&length, bytes.data(), 4);
      require(length <= bytes.size() - 4, "a page ends early");
      add_levels(bytes.substr(4, length), highest, page.values, to);
      bytes.remove_prefix(4 + length);
    };
    levels(node_.repeated, out_.repetition);
    levels(node_.definition, out_.definition);
    add_values(bytes, page);
  }

  void read_data_2(const ParquetPage& page, std::string_view packed) {
    begin_page(page);
    const std::size_t before = page.repetition_bytes + page.definition_bytes;
    require(page.repetition_bytes <= packed.size() && before <= packed.size() &&
                before <= page.unpacked,
            "a page ends early");
    if (node_.repeated > 0)
      add_levels(packed.substr(0, page.repetition_bytes), node_.repeated, page.values,
                 out_.repetition);
    if (node_.definition > 0) {
      add_levels(packed.substr(page.repetition_bytes, page.definition_bytes), node_.definition,
                 page.values, out_.definition);
    }
    packed.remove_prefix(before);
    add_values(page.is_packed ? unpacked(packed, page.unpacked - before) : packed, page);
  }

  void add_values(std::string_view bytes, const ParquetPage& page) {
    const std::size_t count = values_in_page(page.values);
    const std::size_t expected = out_.values.size() + count;
    out_.entries += page.values;
    switch (page.encoding) {
      case kPlain:
        decode_plain(bytes, storage_, count, out_.values);
        break;
      case kPlainDictionary:
      case kDictionary:
        from_dictionary(bytes, count);
        break;
      case kRle:
        require(node_.type == ParquetType::boolean && bytes.size() >= 4,
                "RLE of values that are no booleans");
        bytes.remove_prefix(4);  // their length
        for (const std::uint32_t bit : decode_hybrid(bytes, 1, count))
          out_.values.push_back({{}, bit});
        break;
      case kDelta:
        decode_delta_numbers(bytes, storage_, count, out_.values);
        break;
      case kDeltaLengths:
        decode_delta_lengths(bytes, count, out_.values);
        break;
      case kDeltaTexts:
        decode_delta_texts(bytes, count, most_ - used_, out_.pages, out_.values);
        break;
      case kSplit:
        decode_split(bytes, storage_, count, out_.values);
        break;
      default:
        fail("a page has the encoding {}, which is not read", page.encoding);
    }
    require(out_.values.size() == expected, "a page has {} values, expected {}",
            count - (expected - out_.values.size()), count);
  }

  void from_dictionary(std::string_view bytes, std::size_t count) {
    if (count == 0) return;
    require(!bytes.empty(), "a page ends early");
    const int width = static_cast<std::uint8_t>(bytes.front());
    bytes.remove_prefix(1);
    for (const std::uint32_t index : decode_hybrid(bytes, width, count)) {
      require(index < dictionary_.size(), "a value is the {}th of a dictionary of {}", index,
              dictionary_.size());
      out_.values.push_back(dictionary_[index]);
    }
  }

  const ParquetChunk& chunk_;
  const ParquetNode& node_;
  const std::string& where_;
  const std::string& name_;
  std::size_t most_;
  ParquetStorage storage_;
  std::size_t used_ = 0;
  std::vector<ParquetValue> dictionary_;
  ParquetColumn out_;
};

}  // namespace

ParquetColumn read_parquet_column(const ParquetChunk& chunk, const ParquetNode& node,
                                  const std::string& where, const std::string& name,
                                  std::size_t most) {
  return ColumnReader(chunk, node, where, name, most).read();
}

}  // namespace qgrpo::train
