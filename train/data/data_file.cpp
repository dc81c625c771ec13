#include "train/data/data_file.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <system_error>
#include <vector>

#include "model/io/file.h"
#include "model/io/notes.h"
#include "model/io/utf8.h"
#include "train/data/files/csv.h"
#include "train/data/files/parquet.h"
#include "train/data/files/unpack.h"
#include "train/data/python_text.h"

namespace qgrpo::train {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kGsm8k =
    "https://raw.githubusercontent.com/openai/grade-school-math/master/grade_school_math/data/"
    "train.jsonl";

// A name on the Hub, OWNER/NAME, where it is no path.
bool may_be_repo(const std::string& path) {
  return std::count(path.begin(), path.end(), '/') == 1 && path.front() != '/' &&
         path.front() != '.' && path.back() != '/' && !path.ends_with(".jsonl") &&
         !path.ends_with(".json") && !path.ends_with(".gz");
}

void check_missing(const std::string& path) {
  if (path.ends_with("gsm8k")) {
    fail("{}: there is no such file; GSM8K's train.jsonl is fetched by: curl -LO {}", path, kGsm8k);
  }
  if (may_be_repo(path)) {
    fail(
        "{}: there is no such file; expected a file of JSON lines. Of a data set on the Hub: "
        "python3 -c \"from datasets import load_dataset; load_dataset('{}', "
        "split='train').to_json('train.jsonl')\"",
        path, path);
  }
  // A list of files, each of which is there.
  if (path.find(',') == std::string::npos) return;
  std::error_code error;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find(',', begin), path.size());
    if (!fs::exists(path.substr(begin, end - begin), error)) return;
    begin = end + 1;
  }
  fail("{}: there is no such file; of several files, name each with an option of its own", path);
}

void check_path(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error)) check_missing(path);
  if (!fs::is_directory(path, error)) return;
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(path, error)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".jsonl") || name.ends_with(".json") || name.ends_with(".gz") ||
        name.ends_with(".zst") || name.ends_with(".csv") || name.ends_with(".tsv"))
      files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  fail("{}: is a folder, expected a file of JSON lines{}", path,
       files.empty() ? "" : fmt::format(", such as {}", files.front()));
}

// What is known by its first bytes or by its name, and no text of JSON.
void refuse_other_formats(const std::string& path, std::string_view content) {
  const auto refuse = [&](std::string_view what, const std::string& how) {
    fail("{}: is {}, expected JSON lines; to convert it: {}", path, what, how);
  };
  if (content.starts_with("ARROW1") || path.ends_with(".arrow")) {
    refuse("an Arrow file", fmt::format("python3 -c \"from datasets import Dataset; "
                                        "Dataset.from_file('{}').to_json('{}.jsonl')\"",
                                        path, fs::path(path).stem().string()));
  }
  using namespace std::string_view_literals;
  for (const auto& [magic, name, program] :
       {std::array{"\xfd\x37zXZ"sv, "packed with xz"sv, "unxz"sv},
        std::array{"BZh"sv, "packed with bzip2"sv, "bunzip2"sv},
        std::array{"PK\x03\x04"sv, "a zip archive"sv, "unzip"sv}}) {
    if (content.starts_with(magic)) refuse(name, fmt::format("{} {}", program, path));
  }
}

std::string data_file(const std::string& path) {
  check_path(path);
  std::string content = io::read_input(path);
  if (const Packing packing = packing_of(content); packing != Packing::none)
    content = unpack(content, packing, path);
  refuse_other_formats(path, content);
  return content;
}

// A file's content behind its byte order mark, and what follows from both.
struct DataText {
  const std::string& path;
  std::string_view content;
  char first = '\0';  // that is not blank; 0: there is none
};

// The delimiter of a file of columns by its name, or nothing: JSON under such a name is JSON.
std::optional<char> delimiter_of(const DataText& text) {
  std::string_view name = text.path;
  for (const std::string_view packed : {".gz", ".zst"}) {
    if (name.ends_with(packed)) name.remove_suffix(packed.size());
  }
  if (text.first == '{' || text.first == '[') return std::nullopt;
  if (name.ends_with(".csv")) return ',';
  if (name.ends_with(".tsv")) return '\t';
  return std::nullopt;
}

// Reads one kind of file: `each` with every object and its text, each in an attempt of its own.
class Reader {
 public:
  using Each = std::function<void(const io::JsonValue& object, std::string_view text)>;
  using Bad = std::function<void(const Error& error)>;
  Reader(const Each& each, const Bad& bad) : each_(each), bad_(bad) {}

  void array(const DataText& text) {
    const io::JsonValue whole = document_.parse(text.content, text.path);
    std::size_t found = 0;
    for (const io::JsonValue& item : whole.as_array()) {
      const io::JsonValue object(item.element(), fmt::format("{} item {}", text.path, ++found));
      attempt([&] {
        require(object.is_object(),
                "{}: found something else than an object, expected an array of objects",
                object.where());
        each_(object, object.minified());
      });
    }
    require(found > 0, "{}: the array is empty, expected objects", text.path);
  }

  void lines(const DataText& text) {
    std::size_t found = 0;
    std::size_t begin = 0;
    for (std::size_t number = 1; begin < text.content.size(); ++number) {
      const std::size_t end = std::min(text.content.find('\n', begin), text.content.size());
      const std::string_view line = python_strip(text.content.substr(begin, end - begin));
      begin = end + 1;
      if (line.empty()) continue;
      ++found;
      attempt([&] {
        const io::JsonValue object =
            document_.parse(line, fmt::format("{} line {}", text.path, number));
        require(object.is_object(), "{}: expected a JSON object a line, found {}", object.where(),
                object.is_array() ? "an array" : "another value");
        each_(object, line);
      });
    }
    require(found > 0, "{}: the file is empty, expected one JSON object a line", text.path);
  }

  void parquet(const DataText& text) {
    const std::vector<std::string> left_out = read_parquet(
        text.content, text.path, most_unpacked_bytes(),
        [&](std::string_view json, std::size_t row) {
          attempt([&] {
            each_(document_.parse(json, fmt::format("{} row {}", text.path, row)), json);
          });
        });
    if (left_out.empty()) return;
    io::note(fmt::format(
        "{}: left out {}, whose values are no texts, numbers or booleans (dates, decimals, bytes)",
        text.path, fmt::join(left_out, ", ")));
  }

  void csv(const DataText& text, char delimiter) {
    check_utf8(text);
    read_csv(
        text.content, delimiter, text.path,
        [&](std::string_view json, std::size_t line) {
          attempt([&] {
            each_(document_.parse(json, fmt::format("{} line {}", text.path, line)), json);
          });
        },
        bad_);
  }

 private:
  template <typename Read>
  void attempt(const Read& read) {
    try {
      read();
    } catch (const Error& error) {
      if (!bad_) throw;
      bad_(error);
    }
  }

  // JSON's own check would name a byte of the text that was made of a row.
  static void check_utf8(const DataText& text) {
    constexpr std::string_view how = "expected UTF-8: iconv -f ENCODING -t UTF-8";
    using namespace std::string_view_literals;
    for (const std::string_view mark : {"\xff\xfe"sv, "\xfe\xff"sv}) {
      require(!text.content.starts_with(mark), "{}: is UTF-16; {}", text.path, how);
    }
    if (utf8::is_valid(text.content)) return;
    std::size_t begin = 0;
    for (std::size_t line = 1;; ++line) {
      const std::size_t end = std::min(text.content.find('\n', begin), text.content.size());
      if (!utf8::is_valid(text.content.substr(begin, end - begin)))
        fail("{} line {}: is not UTF-8; {}", text.path, line, how);
      begin = end + 1;
    }
  }

  const Each& each_;
  const Bad& bad_;
  io::JsonDocument document_;
};

}  // namespace

void read_data_file(
    const std::string& path,
    const std::function<void(const io::JsonValue& object, std::string_view text)>& each,
    const std::function<void(const Error& error)>& bad) {
  const std::string content = data_file(path);
  constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
  DataText text{path, content};
  if (content.starts_with(byte_order_mark)) text.content.remove_prefix(byte_order_mark.size());
  const std::size_t first = text.content.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos) text.first = text.content[first];
  Reader reader(each, bad);
  if (content.starts_with("PAR1")) {
    reader.parquet(text);
  } else if (const auto delimiter = delimiter_of(text)) {
    reader.csv(text, *delimiter);
  } else if (text.first == '[') {
    reader.array(text);
  } else {
    reader.lines(text);
  }
}

}  // namespace qgrpo::train
