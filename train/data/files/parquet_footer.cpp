#include "train/data/files/parquet_footer.h"

#include <array>
#include <cstring>

#include "model/ops/error.h"
#include "train/data/files/thrift.h"

namespace qgrpo::train {
namespace {

constexpr std::string_view kMagic = "PAR1";
constexpr int kDeepestGroup = 32;  // groups in groups

// SchemaElement, before the tree is made of the list.
struct Element {
  std::optional<int> type;
  std::int32_t type_length = 0;
  int repetition = 0;
  std::string name;
  std::int32_t children = 0;
  std::optional<int> converted;
  int logical = 0;  // the field of the union LogicalType that is set; 0: none
};

struct ColumnMeta {
  int type = -1;
  int codec = -1;
  std::int64_t values = -1;
  std::int64_t packed = -1;
  std::int64_t data_offset = -1;
  std::int64_t dictionary_offset = -1;
  bool elsewhere = false;  // in another file
};

struct RowGroup {
  std::vector<ColumnMeta> columns;
  std::int64_t rows = -1;
};

Element read_element(ThriftReader& in) {
  Element out;
  in.fields([&](int field) {
    switch (field) {
      case 1:
        out.type = in.whole32();
        return true;
      case 2:
        out.type_length = in.whole32();
        return true;
      case 3:
        out.repetition = in.whole32();
        return true;
      case 4:
        out.name = std::string(in.text());
        return true;
      case 5:
        out.children = in.whole32();
        return true;
      case 6:
        out.converted = in.whole32();
        return true;
      case 10:
        in.fields([&](int kind) {
          out.logical = kind;
          return false;
        });
        return true;
      default:
        return false;
    }
  });
  return out;
}

ColumnMeta read_column_meta(ThriftReader& in) {
  ColumnMeta out;
  const auto meta = [&](int field) {
    switch (field) {
      case 1:
        out.type = in.whole32();
        return true;
      case 4:
        out.codec = in.whole32();
        return true;
      case 5:
        out.values = in.whole();
        return true;
      case 7:
        out.packed = in.whole();
        return true;
      case 9:
        out.data_offset = in.whole();
        return true;
      case 11:
        out.dictionary_offset = in.whole();
        return true;
      default:
        return false;
    }
  };
  in.fields([&](int field) {
    if (field == 1) out.elsewhere = true;
    if (field != 3) return false;
    in.fields(meta);
    return true;
  });
  return out;
}

RowGroup read_row_group(ThriftReader& in) {
  RowGroup out;
  in.fields([&](int field) {
    if (field == 1) {
      in.list([&] { out.columns.push_back(read_column_meta(in)); });
      return true;
    }
    if (field != 3) return false;
    out.rows = in.whole();
    return true;
  });
  return out;
}

// By ConvertedType, the older annotation, and LogicalType.
ParquetMeaning meaning_of(const Element& e, ParquetType type) {
  constexpr int utf8 = 0, enumeration = 4, first_unsigned = 11, last_unsigned = 14,
                first_signed = 15, last_signed = 18, json = 19;
  constexpr int logical_string = 1, logical_enum = 4, logical_integer = 10, logical_json = 12;
  const bool plain = !e.converted && e.logical == 0;
  switch (type) {
    case ParquetType::boolean:
      return ParquetMeaning::boolean;
    case ParquetType::int32:
    case ParquetType::int64:
      if (e.converted && *e.converted >= first_unsigned && *e.converted <= last_unsigned)
        return ParquetMeaning::unsigned_whole;
      if (plain || (e.converted && *e.converted >= first_signed && *e.converted <= last_signed) ||
          (!e.converted && e.logical == logical_integer)) {
        return ParquetMeaning::whole;
      }
      return ParquetMeaning::other;
    case ParquetType::float32:
    case ParquetType::float64:
      return ParquetMeaning::number;
    case ParquetType::bytes:
      if ((e.converted &&
           (*e.converted == utf8 || *e.converted == enumeration || *e.converted == json)) ||
          e.logical == logical_string || e.logical == logical_enum || e.logical == logical_json) {
        return ParquetMeaning::text;
      }
      return ParquetMeaning::other;
    case ParquetType::int96:
    case ParquetType::fixed:
      return ParquetMeaning::other;
  }
  return ParquetMeaning::other;
}

// Makes the tree of the list, in which each group stands before its children.
class Tree {
 public:
  Tree(const std::vector<Element>& elements, ParquetFooter& footer, const std::string& where)
      : elements_(elements), footer_(footer), where_(where) {}

  void build() {
    require(!elements_.empty() && elements_[0].children > 0, "{}: has no columns", where_);
    footer_.root.name = elements_[0].name;
    next_ = 1;
    children(footer_.root, elements_[0].children, "", 0);
    require(next_ == elements_.size(),
            "{}: the description of its columns is damaged: {} of {} belong to none", where_,
            elements_.size() - next_, elements_.size());
  }

 private:
  void children(ParquetNode& parent, std::int32_t count, const std::string& path, int depth) {
    require(depth < kDeepestGroup, "{}: the columns are nested too deeply", where_);
    for (std::int32_t i = 0; i < count; ++i) {
      require(next_ < elements_.size(),
              "{}: the description of its columns is damaged: it ends early", where_);
      const Element& e = elements_[next_++];
      require(e.repetition >= 0 && e.repetition <= 2 && e.children >= 0,
              "{}: the description of its column \"{}\" is damaged", where_, e.name);
      ParquetNode node;
      node.name = e.name;
      node.repetition = static_cast<ParquetRepetition>(e.repetition);
      node.definition =
          parent.definition + (node.repetition != ParquetRepetition::required ? 1 : 0);
      node.repeated = parent.repeated + (node.repetition == ParquetRepetition::repeated ? 1 : 0);
      constexpr int converted_map = 1, converted_list = 3, logical_map = 2, logical_list = 3;
      node.list = e.logical == logical_list || e.logical == logical_map ||
                  e.converted == converted_list || e.converted == converted_map;
      const std::string name = path.empty() ? e.name : path + "." + e.name;
      if (e.children > 0) {
        children(node, e.children, name, depth + 1);
      } else {
        require(e.type && *e.type >= 0 && *e.type <= 7 && e.type_length >= 0,
                "{}: the description of its column \"{}\" is damaged", where_, name);
        node.type = static_cast<ParquetType>(*e.type);
        node.meaning = meaning_of(e, node.type);
        node.width = static_cast<std::size_t>(e.type_length);
        node.column = footer_.columns.size();
        footer_.columns.push_back(name);
      }
      parent.children.push_back(std::move(node));
    }
  }

  const std::vector<Element>& elements_;
  ParquetFooter& footer_;
  const std::string& where_;
  std::size_t next_ = 0;
};

ParquetCodec codec_of(int codec, const std::string& where, const std::string& column) {
  constexpr std::array names = {"nothing", "Snappy", "gzip", "LZO",
                                "Brotli",  "LZ4",    "zstd", "LZ4_RAW"};
  switch (codec) {
    case 0:
    case 1:
    case 2:
    case 6:
      return static_cast<ParquetCodec>(codec);
    default:
      fail(
          "{}: the column \"{}\" is packed with {}; expected Snappy, gzip, zstd or nothing: write "
          "it anew "
          "(pandas: to_parquet(.., compression='zstd'))",
          where, column,
          codec >= 0 && codec < std::ssize(names) ? names[static_cast<std::size_t>(codec)]
                                                  : "something unknown");
  }
}

}  // namespace

ParquetFooter read_parquet_footer(std::string_view file, const std::string& where) {
  constexpr std::size_t tail = 8;
  require(!file.ends_with("PARE"), "{}: is an encrypted Parquet file, which is not read", where);
  require(file.starts_with(kMagic) && file.size() >= kMagic.size() + tail && file.ends_with(kMagic),
          "{}: the Parquet file is cut off: its last bytes are not PAR1", where);
  std::uint32_t length = 0;
  std::memcpy(&length, file.data() + file.size() - tail, 4);
  require(length <= file.size() - tail - kMagic.size(),
          "{}: the Parquet file is damaged: its description has {} bytes, the file {}", where,
          length, file.size());
  ThriftReader in(file.substr(file.size() - tail - length, length), where);
  std::vector<Element> elements;
  std::vector<RowGroup> groups;
  in.fields([&](int field) {
    if (field == 2) {
      in.list([&] { elements.push_back(read_element(in)); });
      return true;
    }
    if (field != 4) return false;
    in.list([&] { groups.push_back(read_row_group(in)); });
    return true;
  });
  ParquetFooter out;
  Tree(elements, out, where).build();
  std::size_t number = 0;
  for (const RowGroup& group : groups) {
    ++number;
    require(group.rows >= 0 && group.columns.size() == out.columns.size(),
            "{}: the Parquet file is damaged: its row group {} has {} columns, expected {}", where,
            number, group.columns.size(), out.columns.size());
    ParquetRowGroup rows;
    rows.rows = static_cast<std::size_t>(group.rows);
    for (std::size_t i = 0; i < group.columns.size(); ++i) {
      const ColumnMeta& c = group.columns[i];
      require(!c.elsewhere, "{}: its column \"{}\" lies in another file, which is not read", where,
              out.columns[i]);
      // A dictionary stands before the data.
      const std::int64_t begin = c.dictionary_offset > 0 && c.dictionary_offset < c.data_offset
                                     ? c.dictionary_offset
                                     : c.data_offset;
      const auto size = static_cast<std::int64_t>(file.size());
      require(
          begin >= 0 && begin <= size && c.packed >= 0 && c.packed <= size - begin && c.values >= 0,
          "{}: the Parquet file is damaged or cut off: its column \"{}\" lies beyond its end",
          where, out.columns[i]);
      ParquetChunk chunk;
      chunk.codec = codec_of(c.codec, where, out.columns[i]);
      chunk.values = static_cast<std::size_t>(c.values);
      chunk.bytes =
          file.substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(c.packed));
      rows.columns.push_back(chunk);
    }
    out.row_groups.push_back(std::move(rows));
  }
  return out;
}

ParquetPage read_parquet_page(std::string_view& bytes, const std::string& where) {
  ThriftReader in(bytes, where);
  ParquetPage page;
  const auto size = [&] {
    const std::int64_t value = in.whole();
    require(value >= 0, "{}: the Parquet file is damaged: a page has a negative size", where);
    return static_cast<std::size_t>(value);
  };
  const auto dictionary = [&](int field) {
    if (field == 1) page.values = size();
    if (field == 2) page.encoding = in.whole32();
    return field == 1 || field == 2;
  };
  const auto data = [&](int field) {
    if (field == 1) page.values = size();
    if (field == 2) page.encoding = in.whole32();
    if (field == 3) page.definition_encoding = in.whole32();
    if (field == 4) page.repetition_encoding = in.whole32();
    return field >= 1 && field <= 4;
  };
  const auto data_2 = [&](int field) {
    if (field == 1) page.values = size();
    if (field == 4) page.encoding = in.whole32();
    if (field == 5) page.definition_bytes = size();
    if (field == 6) page.repetition_bytes = size();
    if (field == 7) page.is_packed = in.boolean();
    return field == 1 || (field >= 4 && field <= 7);
  };
  in.fields([&](int field) {
    if (field == 1) page.kind = static_cast<ParquetPage::Kind>(in.whole32());
    if (field == 2) page.unpacked = size();
    if (field == 3) page.packed = size();
    if (field == 5) in.fields(data);
    if (field == 7) in.fields(dictionary);
    if (field == 8) in.fields(data_2);
    return (field >= 1 && field <= 3) || field == 5 || field == 7 || field == 8;
  });
  bytes.remove_prefix(in.position());
  require(page.packed <= bytes.size(),
          "{}: the Parquet file is damaged or cut off: a page ends beyond its column", where);
  return page;
}

}  // namespace qgrpo::train
