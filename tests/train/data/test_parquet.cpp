#include "train/data/files/parquet.h"

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "model/io/file.h"
#include "model/ops/error.h"
#include "support/vectors.h"
#include "train/data/files/parquet_encodings.h"
#include "train/data/files/snappy.h"

// Files that pyarrow has written (tools/peers/data_files.py --vectors).
namespace qgrpo::train {
namespace {

constexpr std::size_t kMost = std::size_t{1} << 26;
constexpr const char* kKinds[] = {"snappy",           "zstd-pages-2", "gzip-plain",
                                  "none-small-pages", "row-groups",   "delta"};

std::string bytes_of(const std::string& name) {
  return io::read_file(test::vector_path("data_files/" + name));
}

struct Read {
  std::vector<std::string> rows;
  std::vector<std::string> left_out;
};

Read read(std::string_view file, std::size_t most = kMost) {
  Read out;
  out.left_out = read_parquet(file, "d.parquet", most, [&](std::string_view json, std::size_t row) {
    out.rows.emplace_back(json);
    CHECK(row == out.rows.size());
  });
  return out;
}

std::string refusal(std::string_view file, std::size_t most = kMost) {
  try {
    read(file, most);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

void check_contains(const std::string& text, const std::string& part) {
  CAPTURE(text);
  CAPTURE(part);
  CHECK(text.find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("parquet: rows as pyarrow has them, in every packing, page and encoding") {
  std::vector<std::string> expected;
  std::istringstream lines(bytes_of("rows.jsonl"));
  for (std::string line; std::getline(lines, line);) expected.push_back(line);
  REQUIRE(expected.size() == 5);
  for (const char* kind : kKinds) {
    CAPTURE(kind);
    const Read found = read(bytes_of(std::string(kind) + ".parquet"));
    CHECK(found.rows == expected);
    CHECK(found.left_out.empty());
  }
}

TEST_CASE("parquet: columns that JSON cannot say are left out and named") {
  const Read found = read(bytes_of("other.parquet"));
  CHECK(found.rows == std::vector<std::string>{R"({"prompt":"a","image":{"path":"p"}})",
                                               R"({"prompt":"b","image":null})"});
  CHECK(found.left_out ==
        std::vector<std::string>{"when", "raw", "price", "image.bytes", "only.raw"});
}

TEST_CASE("parquet: what is not read or damaged is refused in one line") {
  check_contains(refusal(bytes_of("lz4.parquet")),
                 "d.parquet: the column \"prompt\" is packed with LZ4");
  const std::string file = bytes_of("snappy.parquet");
  for (std::size_t size : {std::size_t{4}, std::size_t{11}, file.size() / 2, file.size() - 1})
    check_contains(refusal(file.substr(0, size)), "d.parquet: the Parquet file is cut off");
  check_contains(refusal("PAR1\xff\xff\xff\x7fPAR1"), "d.parquet: the Parquet file is damaged");
  check_contains(refusal(file, 1000), "d.parquet: unpacked it has more than");
}

TEST_CASE("parquet: a flipped byte is refused or read, and nothing worse") {
  for (const char* kind : kKinds) {
    const std::string file = bytes_of(std::string(kind) + ".parquet");
    for (std::size_t at = 0; at < file.size(); at += 3) {
      std::string damaged = file;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 + at % 255));
      try {
        read_parquet(damaged, "d.parquet", kMost, [](std::string_view, std::size_t) {});
      } catch (const Error& error) {
        if (std::string(error.what()).starts_with("d.parquet")) continue;
        FAIL_CHECK(error.what());
      }
    }
  }
}

TEST_CASE("snappy: literals, copies that reach into what they make, damage") {
  using namespace std::string_view_literals;
  CHECK(unsnappy("\x05\x10hello"sv, 5) == "hello");
  CHECK(unsnappy("\x08\x04"
                 "ab"
                 "\x09\x02"sv,
                 8) == "abababab"sv.substr(0, 8));
  CHECK(unsnappy("\x06\x04"
                 "ab"
                 "\x0e\x02\x00"sv,
                 6) == "ababab");
  CHECK(unsnappy("\x00"sv, 0) == "");
  CHECK_FALSE(unsnappy("\x05\x10hell"sv, 5).has_value());
  CHECK_FALSE(unsnappy("\x05\x10hello"sv, 6).has_value());
  CHECK_FALSE(unsnappy("\x08\x04"
                       "ab"
                       "\x09\x03"sv,
                       8)
                  .has_value());  // before the beginning
  CHECK_FALSE(unsnappy("\x06\x04"
                       "ab"
                       "\x0e\x00\x00"sv,
                       6)
                  .has_value());
  CHECK_FALSE(unsnappy("\xff\xff\xff\xff\xff\xff"sv, 5).has_value());
  CHECK_FALSE(unsnappy(""sv, 0).has_value());
}

TEST_CASE("parquet: a run of more values than there are rows takes no memory") {
  using namespace std::string_view_literals;
  std::string_view run = "\xfe\xff\xff\xff\x0f\x01"sv;
  CHECK(decode_hybrid(run, 1, 3) == std::vector<std::uint32_t>{1, 1, 1});
  std::string_view endless = "\x00\x00\x00"sv;  // runs of nothing
  CHECK_THROWS_AS(decode_hybrid(endless, 0, 1), Error);
  std::string_view delta = "\x80\x01\x04\xff\xff\xff\xff\x0f\x00"sv;
  CHECK_THROWS_AS(decode_delta(delta, 10), Error);
}

}  // namespace qgrpo::train
