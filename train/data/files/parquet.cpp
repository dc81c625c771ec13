#include "train/data/files/parquet.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <optional>

#include "model/io/bytes.h"
#include "model/io/json.h"
#include "model/io/utf8.h"
#include "model/ops/error.h"
#include "train/data/files/parquet_column.h"
#include "train/data/files/parquet_footer.h"

namespace qgrpo::train {
namespace {

// Takes the columns out of a tree that JSON cannot say, and groups that have no others. False: nothing is left.
bool keep_known(ParquetNode& node, const ParquetFooter& footer,
                std::vector<std::string>& left_out) {
  if (node.is_column()) {
    if (node.meaning != ParquetMeaning::other) return true;
    left_out.push_back(footer.columns[node.column]);
    return false;
  }
  std::erase_if(node.children,
                [&](ParquetNode& child) { return !keep_known(child, footer, left_out); });
  return !node.children.empty();
}

// A column and how far it has been read.
struct Cursor {
  ParquetColumn column;
  std::size_t entry = 0;
  std::size_t value = 0;
};

// Puts the columns of a row group together again: "Dremel: Interactive Analysis of Web-Scale Datasets", section 4.3.
// An entry's definition level says how far down from the root the path of its column is there; its repetition level, which
// of the lists above it goes on with it (0: a new row).
class Rows {
 public:
  Rows(const ParquetNode& root, std::vector<std::optional<Cursor>>& cursors,
       const ParquetFooter& footer, const std::string& where)
      : root_(root), cursors_(cursors), footer_(footer), where_(where) {}

  // The next row as JSON.
  const std::string& next(std::size_t row) {
    row_ = row;
    out_.clear();
    write_group(root_);
    return out_;
  }

 private:
  [[noreturn]] void damaged(const ParquetNode& node) const {
    fail("{} row {}: the Parquet file is damaged: the columns at \"{}\" do not fit each other",
         where_, row_, node.name);
  }

  static const ParquetNode& first_column(const ParquetNode& node) {
    const ParquetNode* at = &node;
    while (!at->is_column()) at = &at->children.front();
    return *at;
  }
  Cursor& cursor(const ParquetNode& column) { return *cursors_[column.column]; }

  int definition(const ParquetNode& node) {
    const ParquetNode& column = first_column(node);
    const Cursor& at = cursor(column);
    if (at.entry >= at.column.entries) damaged(node);
    return at.column.definition.empty() ? column.definition : at.column.definition[at.entry];
  }
  // Of the next entry; -1 at the end.
  int repetition(const ParquetNode& node) {
    const Cursor& at = cursor(first_column(node));
    if (at.entry >= at.column.entries) return -1;
    return at.column.repetition.empty() ? 0 : at.column.repetition[at.entry];
  }

  // Passes over one entry of each column, none of which is there.
  void pass(const ParquetNode& node) {
    if (!node.is_column()) {
      for (const ParquetNode& child : node.children) pass(child);
      return;
    }
    if (definition(node) >= node.definition) damaged(node);
    ++cursor(node).entry;
  }

  void write(const ParquetNode& node) {
    if (node.repetition == ParquetRepetition::repeated) {
      write_items(node, node);
    } else if (definition(node) < node.definition) {
      pass(node);
      out_ += "null";
    } else {
      write_value(node);
    }
  }

  // What is there.
  void write_value(const ParquetNode& node) {
    if (node.is_column()) {
      write_cell(node);
    } else if (node.list && node.children.size() == 1 &&
               node.children[0].repetition == ParquetRepetition::repeated) {
      const ParquetNode& items = node.children[0];
      // Old writers have the item itself repeated, new ones a group around it.
      const bool wrapped =
          items.children.size() == 1 && items.name != "array" && items.name != node.name + "_tuple";
      write_items(items, wrapped ? items.children[0] : items);
    } else {
      write_group(node);
    }
  }

  // A list of all that `repeated` repeats, of each time the part `item`.
  void write_items(const ParquetNode& repeated, const ParquetNode& item) {
    out_ += '[';
    if (definition(repeated) < repeated.definition) {
      pass(repeated);
    } else {
      for (bool first = true;; first = false) {
        if (!first) out_ += ',';
        if (&item == &repeated) {
          write_value(item);
        } else {
          write(item);
        }
        if (repetition(repeated) < repeated.repeated) break;
      }
    }
    out_ += ']';
  }

  void write_group(const ParquetNode& node) {
    out_ += '{';
    for (const ParquetNode& child : node.children) {
      if (&child != &node.children.front()) out_ += ',';
      out_ += io::json_string(child.name);
      out_ += ':';
      write(child);
    }
    out_ += '}';
  }

  void write_cell(const ParquetNode& node) {
    if (definition(node) != node.definition) damaged(node);
    Cursor& at = cursor(node);
    ++at.entry;
    if (at.value >= at.column.values.size()) damaged(node);
    const ParquetValue& value = at.column.values[at.value++];
    switch (node.meaning) {
      case ParquetMeaning::boolean:
        out_ += value.bits != 0 ? "true" : "false";
        break;
      case ParquetMeaning::whole:
        out_ += fmt::to_string(static_cast<std::int64_t>(value.bits));
        break;
      case ParquetMeaning::unsigned_whole:
        out_ += fmt::to_string(value.bits);
        break;
      case ParquetMeaning::number: {
        const std::string text = io::json_number(std::bit_cast<double>(value.bits));
        out_ += text;
        if (text.find_first_of(".eEn") == std::string::npos) out_ += ".0";
        break;
      }
      case ParquetMeaning::text:
        require(utf8::is_valid(value.text), "{} row {}: the column \"{}\" is not UTF-8", where_,
                row_, footer_.columns[node.column]);
        out_ += io::json_string(value.text);
        break;
      case ParquetMeaning::other:
        damaged(node);
    }
  }

  const ParquetNode& root_;
  std::vector<std::optional<Cursor>>& cursors_;
  const ParquetFooter& footer_;
  const std::string& where_;
  std::size_t row_ = 0;
  std::string out_;
};

// Reads the columns below a node.
void read_columns(const ParquetNode& node, const ParquetRowGroup& group,
                  const ParquetFooter& footer, const std::string& where, std::size_t most,
                  std::vector<std::optional<Cursor>>& cursors) {
  if (!node.is_column()) {
    for (const ParquetNode& child : node.children)
      read_columns(child, group, footer, where, most, cursors);
    return;
  }
  cursors[node.column] =
      Cursor{read_parquet_column(group.columns[node.column], node, where,
                                 footer.columns[node.column], most / footer.columns.size())};
}

}  // namespace

std::vector<std::string> read_parquet(
    std::string_view file, const std::string& where, std::size_t most,
    const std::function<void(std::string_view json, std::size_t row)>& each) {
  ParquetFooter footer = read_parquet_footer(file, where);
  std::vector<std::string> left_out;
  require(keep_known(footer.root, footer, left_out),
          "{}: has no column of texts, numbers or booleans", where);
  std::size_t row = 0;
  std::size_t written = 0;
  for (const ParquetRowGroup& group : footer.row_groups) {
    std::vector<std::optional<Cursor>> cursors(footer.columns.size());
    read_columns(footer.root, group, footer, where, most, cursors);
    Rows rows(footer.root, cursors, footer, where);
    for (std::size_t i = 0; i < group.rows; ++i) {
      const std::string& json = rows.next(++row);
      written += json.size();
      require(written <= most,
              "{}: its rows have more than {} together, expected at most that (half of the free "
              "memory)",
              where, io::format_bytes(most));
      each(json, row);
    }
    for (const auto& cursor : cursors) {
      require(!cursor || cursor->entry == cursor->column.entries,
              "{}: the Parquet file is damaged: its columns have different numbers of rows", where);
    }
  }
  require(row > 0, "{}: has no rows", where);
  return left_out;
}

}  // namespace qgrpo::train
