#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "model/ops/error.h"

// CSV as RFC 4180 has it, and what its fields are as values.
namespace qgrpo::train {

// The rows of a text, as pandas parts them: a field may stand in double quotes, in which a quote is
// doubled and delimiters and line ends are text; a quote inside a field that does not begin with one is
// text; a row ends with LF, CRLF or CR; a line with nothing or blanks alone is no row.
class CsvRows {
 public:
  // `where` names the source in messages.
  CsvRows(std::string_view text, char delimiter, std::string where);

  // The next row's fields; false at the end. Throws Error naming the line where a quote is never closed.
  bool next(std::vector<std::string>& fields);
  // The line on which the row began that was given last, from 1.
  std::size_t line() const { return row_line_; }

 private:
  bool skip_blank_lines();
  bool at_line_end() const;
  void skip_line_end();
  void read_field(std::string& field);

  std::string_view text_;
  char delimiter_;
  std::string where_;
  std::size_t at_ = 0;
  std::size_t line_ = 1;
  std::size_t row_line_ = 0;
};

// Calls `each` with every row of a text but the first, which names the columns, as a JSON object on one
// line, and the line on which it begins. The values' types are those of datasets.load_dataset("csv"),
// i.e. of pandas: a column is, where all its fields that are not missing are so,
//   whole numbers   of 64 bits; with missing ones among them as numbers with a fraction (7.0)
//   numbers         but for "inf", which JSON cannot say: such a column stays text
//   true, false     True, TRUE, true; False, FALSE, false
//   text            otherwise, each field as it stands in the file
// and null where a field is empty or one of pandas' words for that (NA, N/A, NaN, nan, null, NULL, None,
// ..). They are told from all rows at once. Columns of the same name are a, a.1, ..; one without a name
// is "Unnamed: 2". A row with fewer fields than the first has null in the others. Throws Error naming the line of a
// row with more, which goes to `bad` where there is one; of a quote that is never closed; and where
// there is no row at all.
void read_csv(std::string_view text, char delimiter, const std::string& where,
              const std::function<void(std::string_view json, std::size_t line)>& each,
              const std::function<void(const Error& error)>& bad = {});

}  // namespace qgrpo::train
