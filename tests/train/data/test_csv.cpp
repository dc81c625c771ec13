#include "train/data/files/csv.h"

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "model/ops/error.h"

namespace qgrpo::train {
namespace {

std::vector<std::string> rows(const std::string& text, char delimiter = ',') {
  std::vector<std::string> out;
  read_csv(text, delimiter, "d.csv", [&](std::string_view json, std::size_t line) {
    out.push_back(fmt::format("{} {}", line, json));
  });
  return out;
}

std::string refusal(const std::string& text) {
  try {
    rows(text);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

using Rows = std::vector<std::string>;

}  // namespace

TEST_CASE("csv: fields as RFC 4180 and pandas part them") {
  CHECK(rows("a,b\n1,x\n") == Rows{R"(2 {"a":1,"b":"x"})"});
  CHECK(rows("a,b\r\n1,x\r\n2,y") == Rows{R"(2 {"a":1,"b":"x"})", R"(3 {"a":2,"b":"y"})"});
  CHECK(rows("a,b\r1,x\r") == Rows{R"(2 {"a":1,"b":"x"})"});
  // A delimiter, a doubled quote and line ends within quotes.
  CHECK(rows("a,b\n\"x, \"\"y\"\"\",\"1\n2\r\n3\"\nz,w\n") ==
        Rows{R"(2 {"a":"x, \"y\"","b":"1\n2\r\n3"})", R"(5 {"a":"z","b":"w"})"});
  // A quote that begins no field is text, as is what follows a quoted part.
  CHECK(rows("a,b\nsay \"hi\",\"x\"y\n") == Rows{R"(2 {"a":"say \"hi\"","b":"xy"})"});
  CHECK(rows("\"a\"\n\n  \n\"\"\"\"\n") == Rows{R"(4 {"a":"\""})"});
  CHECK(rows("a\tb,c\n1\t2\n", '\t') == Rows{R"(2 {"a":1,"b,c":2})"});
  // Names that are there twice, or not at all; a row that is short.
  CHECK(rows("a,,a\n1,2\n") == Rows{R"(2 {"a":1,"Unnamed: 1":2,"a.1":null})"});
}

TEST_CASE("csv: the values' types are pandas'") {
  // Each column's fields, and the values of pandas.read_csv.
  const std::vector<std::pair<Rows, Rows>> columns = {
      {{"1", "-2", "007", " 5 "}, {"1", "-2", "7", "5"}},
      {{"1", "", "3"}, {"1.0", "null", "3.0"}},
      {{"1", "2.50", "1e3"}, {"1.0", "2.5", "1000.0"}},
      {{"1", "x", "2.0"}, {"\"1\"", "\"x\"", "\"2.0\""}},
      {{"True", "false", "TRUE"}, {"true", "false", "true"}},
      {{"True", "NA", "False"}, {"true", "null", "false"}},
      {{"True", "1"}, {"\"True\"", "\"1\""}},
      {{"18446744073709551615", "1"}, {"18446744073709551615", "1"}},
      {{"18446744073709551616", "1"}, {"\"18446744073709551616\"", "\"1\""}},
      {{"9223372036854775808", "-1"}, {"\"9223372036854775808\"", "\"-1\""}},
      {{"+7", ".5", "1."}, {"7.0", "0.5", "1.0"}},
      {{"null", "None", "n/a"}, {"null", "null", "null"}},
      {{"$1", "1_000", "0x10"}, {"\"$1\"", "\"1_000\"", "\"0x10\""}},
      {{"1,000", "2"}, {"\"1,000\"", "\"2\""}},
  };
  for (const auto& [fields, values] : columns) {
    std::string text = "k,v\n";
    Rows expected;
    for (std::size_t i = 0; i < fields.size(); ++i) {
      text += fmt::format("x,\"{}\"\n", fields[i]);
      expected.push_back(fmt::format("{} {{\"k\":\"x\",\"v\":{}}}", i + 2, values[i]));
    }
    CHECK(rows(text) == expected);
  }
}

TEST_CASE("csv: what is wrong is told with its line") {
  CHECK(refusal("a,b\n1,2\n1,2,3\n") ==
        "d.csv line 3: found 3 fields, expected 2 as in the first line (a text with \",\" in it "
        "stands in "
        "double quotes)");
  CHECK(refusal("a,b\n1,2\n\n\"x\ny,2\n3,4\n") ==
        "d.csv line 4: a field begins with a quote that is never closed; expected a quote behind "
        "the text");
  CHECK(refusal("a,b\n \n") == "d.csv: there is no row under the columns' names");
  CHECK(refusal("") == "d.csv: the file is empty, expected the columns' names on its first line");
  std::vector<std::string> bad;
  Rows good;
  read_csv(
      "a\n1,2\n3\n", ',', "d.csv",
      [&](std::string_view json, std::size_t) { good.emplace_back(json); },
      [&](const Error& error) { bad.emplace_back(error.what()); });
  CHECK(good == Rows{R"({"a":3})"});
  CHECK(bad.size() == 1);
}

}  // namespace qgrpo::train
