#include "train/data/files/csv.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <set>
#include <system_error>

#include "model/io/json.h"

namespace qgrpo::train {
namespace {

// What pandas takes for a missing value, besides a field of nothing.
bool is_missing(std::string_view field) {
  static const std::set<std::string_view> words = {
      "",     "#N/A",   "#N/A N/A", "#NA",  "-1.#IND", "-1.#QNAN", "-NaN",
      "-nan", "1.#IND", "1.#QNAN",  "<NA>", "N/A",     "NA",       "NULL",
      "NaN",  "None",   "n/a",      "nan",  "null"};
  return words.contains(field);
}

bool is_true(std::string_view f) {
  return f == "True" || f == "TRUE" || f == "true";
}
bool is_false(std::string_view f) {
  return f == "False" || f == "FALSE" || f == "false";
}

// A number as pandas reads it: with blanks around it, and a plus before it.
std::string_view number_text(std::string_view field) {
  constexpr std::string_view blanks = " \t\n\v\f\r";
  const std::size_t first = field.find_first_not_of(blanks);
  if (first == std::string_view::npos) return {};
  field = field.substr(first, field.find_last_not_of(blanks) - first + 1);
  if (field.size() > 1 && field[0] == '+' && field[1] != '-') field.remove_prefix(1);
  return field;
}

template <typename T>
std::optional<T> whole(std::string_view field) {
  const std::string_view text = number_text(field);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> number(std::string_view field) {
  const std::string_view text = number_text(field);
  const std::size_t digit = text.starts_with('-') ? 1 : 0;
  if (text.size() <= digit || (text[digit] != '.' && (text[digit] < '0' || text[digit] > '9')))
    return std::nullopt;  // inf, nan
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end != text.data() + text.size()) return std::nullopt;
  if (error == std::errc::result_out_of_range) {  // 0 or an infinity
    value = std::strtod(std::string(text).c_str(), nullptr);
  } else if (error != std::errc()) {
    return std::nullopt;
  }
  if (!std::isfinite(value)) return std::nullopt;
  return value;
}

// A number with a fraction as JSON, which nobody takes for a whole one.
std::string fraction(double value) {
  std::string text = io::json_number(value);
  if (text.find_first_of(".eE") == std::string::npos) text += ".0";
  return text;
}

// What all fields of a column are, of those that were seen.
struct CsvColumn {
  std::string name;
  bool missing = false;
  bool int64 = true;
  bool uint64 = true;
  bool numbers = true;
  bool booleans = true;
  bool digits = true;  // whole numbers, of any length

  void see(std::string_view field) {
    if (is_missing(field)) {
      missing = true;
      return;
    }
    int64 = int64 && whole<std::int64_t>(field);
    uint64 = uint64 && whole<std::uint64_t>(field);
    numbers = numbers && number(field);
    booleans = booleans && (is_true(field) || is_false(field));
    if (digits) {
      std::string_view text = number_text(field);
      if (text.starts_with('-')) text.remove_prefix(1);
      digits = !text.empty() && text.find_first_not_of("0123456789") == text.npos;
    }
  }

  // As JSON.
  std::string value(std::string_view field) const {
    if (is_missing(field)) return "null";
    if (digits && (int64 || uint64)) {
      if (missing) return fraction(*number(field));
      return int64 ? fmt::to_string(*whole<std::int64_t>(field))
                   : fmt::to_string(*whole<std::uint64_t>(field));
    }
    // Whole numbers of more than 64 bits keep their digits.
    if (numbers && !digits) return fraction(*number(field));
    if (booleans) return is_true(field) ? "true" : "false";
    return io::json_string(field);
  }
};

std::vector<CsvColumn> name_columns(const std::vector<std::string>& header) {
  std::vector<CsvColumn> columns(header.size());
  std::set<std::string> taken;
  for (std::size_t i = 0; i < header.size(); ++i) {
    const std::string name = header[i].empty() ? fmt::format("Unnamed: {}", i) : header[i];
    std::string unique = name;
    for (int n = 1; !taken.insert(unique).second; ++n) unique = fmt::format("{}.{}", name, n);
    columns[i].name = unique;
  }
  return columns;
}

}  // namespace

CsvRows::CsvRows(std::string_view text, char delimiter, std::string where)
    : text_(text), delimiter_(delimiter), where_(std::move(where)) {}

bool CsvRows::at_line_end() const {
  return at_ >= text_.size() || text_[at_] == '\n' || text_[at_] == '\r';
}

void CsvRows::skip_line_end() {
  if (at_ >= text_.size()) return;
  if (text_[at_] == '\r' && at_ + 1 < text_.size() && text_[at_ + 1] == '\n') ++at_;
  ++at_;
  ++line_;
}

// False at the end of the text.
bool CsvRows::skip_blank_lines() {
  while (at_ < text_.size()) {
    const std::size_t begin = at_;
    while (at_ < text_.size() && text_[at_] != delimiter_ &&
           (text_[at_] == ' ' || text_[at_] == '\t'))
      ++at_;
    if (!at_line_end()) {
      at_ = begin;
      return true;
    }
    skip_line_end();
  }
  return false;
}

void CsvRows::read_field(std::string& field) {
  field.clear();
  if (at_ < text_.size() && text_[at_] == '"') {
    const std::size_t opened = line_;
    for (++at_;; ++at_) {
      const std::size_t end = text_.find_first_of("\"\n", at_);
      if (end == std::string_view::npos) {
        fail(
            "{} line {}: a field begins with a quote that is never closed; expected a quote behind "
            "the text",
            where_, opened);
      }
      field.append(text_.substr(at_, end - at_));
      at_ = end;
      if (text_[at_] == '\n') {
        ++line_;
        field += '\n';
        continue;
      }
      if (at_ + 1 >= text_.size() || text_[at_ + 1] != '"') break;
      field += '"';  // a doubled one
      ++at_;
    }
    ++at_;
  }
  // What is not quoted, also behind a quoted part.
  const std::size_t begin = at_;
  while (!at_line_end() && text_[at_] != delimiter_) ++at_;
  field.append(text_.substr(begin, at_ - begin));
}

bool CsvRows::next(std::vector<std::string>& fields) {
  if (!skip_blank_lines()) return false;
  row_line_ = line_;
  for (std::size_t count = 0;; ++count) {
    if (fields.size() <= count) fields.emplace_back();
    read_field(fields[count]);
    if (at_line_end()) {
      fields.resize(count + 1);
      skip_line_end();
      return true;
    }
    ++at_;
  }
}

void read_csv(std::string_view text, char delimiter, const std::string& where,
              const std::function<void(std::string_view json, std::size_t line)>& each,
              const std::function<void(const Error& error)>& bad) {
  std::vector<std::string> fields;
  CsvRows header(text, delimiter, where);
  require(header.next(fields),
          "{}: the file is empty, expected the columns' names on its first line", where);
  std::vector<CsvColumn> columns = name_columns(fields);
  std::size_t count = 0;
  for (CsvRows rows = header; rows.next(fields); ++count) {
    if (fields.size() > columns.size()) {
      const std::string message = fmt::format(
          "{} line {}: found {} fields, expected {} as in the first line (a text with \"{}\" in it "
          "stands in "
          "double quotes)",
          where, rows.line(), fields.size(), columns.size(), delimiter == '\t' ? "\\t" : ",");
      if (!bad) throw Error(message);
      bad(Error(message));
      continue;
    }
    for (std::size_t i = 0; i < columns.size(); ++i)
      columns[i].see(i < fields.size() ? std::string_view(fields[i]) : std::string_view());
  }
  require(count > 0, "{}: there is no row under the columns' names", where);
  std::string json;
  for (CsvRows rows = header; rows.next(fields);) {
    if (fields.size() > columns.size()) continue;  // has been told
    json = "{";
    for (std::size_t i = 0; i < columns.size(); ++i) {
      const std::string_view field =
          i < fields.size() ? std::string_view(fields[i]) : std::string_view();
      json += fmt::format("{}{}:{}", i > 0 ? "," : "", io::json_string(columns[i].name),
                          columns[i].value(field));
    }
    json += '}';
    each(json, rows.line());
  }
}

}  // namespace qgrpo::train
