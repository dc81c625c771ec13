#include "train/data/json_lines.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <system_error>
#include <vector>

#include "model/io/file.h"
#include "train/data/python_text.h"

namespace qgrpo::train {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kGsm8k =
    "https://raw.githubusercontent.com/openai/grade-school-math/master/grade_school_math/data/"
    "train.jsonl";

std::string python_conversion(const std::string& path, std::string_view reader) {
  return fmt::format(
      "python3 -c \"import pandas; pandas.{}('{}').to_json('{}', orient='records', lines=True)\"",
      reader, path, fs::path(path).stem().string() + ".jsonl");
}

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
    if (name.ends_with(".jsonl") || name.ends_with(".json") || name.ends_with(".jsonl.gz"))
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
  if (content.starts_with("PAR1"))
    refuse("a Parquet file", python_conversion(path, "read_parquet"));
  if (content.starts_with("ARROW1") || path.ends_with(".arrow")) {
    refuse("an Arrow file", fmt::format("python3 -c \"from datasets import Dataset; "
                                        "Dataset.from_file('{}').to_json('{}.jsonl')\"",
                                        path, fs::path(path).stem().string()));
  }
  using namespace std::string_view_literals;
  for (const auto& [magic, name, program] :
       {std::array{"\x28\xb5\x2f\xfd"sv, "packed with zstd"sv, "zstd -d"sv},
        std::array{"\xfd\x37zXZ"sv, "packed with xz"sv, "unxz"sv},
        std::array{"BZh"sv, "packed with bzip2"sv, "bunzip2"sv},
        std::array{"PK\x03\x04"sv, "a zip archive"sv, "unzip"sv}}) {
    if (content.starts_with(magic)) refuse(name, fmt::format("{} {}", program, path));
  }
  const bool tabs = path.ends_with(".tsv");
  if (!tabs && !path.ends_with(".csv")) return;
  const std::size_t first = content.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos && (content[first] == '{' || content[first] == '[')) return;
  if (!tabs) refuse("a CSV file", python_conversion(path, "read_csv"));
  refuse("a file of tab-separated values",
         fmt::format(
             "python3 -c \"import pandas; pandas.read_csv('{}', sep='\\t').to_json('{}.jsonl', "
             "orient='records', lines=True)\"",
             path, fs::path(path).stem().string()));
}

// What gzip has packed, of all its members.
std::string gunzip(const std::string& packed, const std::string& path) {
  std::string out;
  z_stream stream{};
  require(inflateInit2(&stream, 16 + MAX_WBITS) == Z_OK, "{}: cannot be unpacked", path);
  std::vector<char> buffer(1 << 18);
  std::size_t read = 0;
  int status = Z_OK;
  while (status == Z_OK ||
         (status == Z_STREAM_END && (read < packed.size() || stream.avail_in > 0))) {
    if (status == Z_STREAM_END) inflateReset(&stream);  // another member follows
    if (stream.avail_in == 0 && read < packed.size()) {
      const std::size_t more = std::min<std::size_t>(packed.size() - read, std::size_t{1} << 30);
      // zlib does not write there
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data() + read));
      stream.avail_in = static_cast<uInt>(more);
      read += more;
    }
    stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
    stream.avail_out = static_cast<uInt>(buffer.size());
    status = inflate(&stream, Z_NO_FLUSH);
    out.append(buffer.data(), buffer.size() - stream.avail_out);
  }
  inflateEnd(&stream);
  require(status == Z_STREAM_END, "{}: the gzip file is damaged or cut off", path);
  return out;
}

std::string data_file(const std::string& path) {
  check_path(path);
  std::string content = io::read_input(path);
  if (content.starts_with("\x1f\x8b")) content = gunzip(content, path);
  refuse_other_formats(path, content);
  return content;
}

}  // namespace

void read_json_lines(
    const std::string& path,
    const std::function<void(const io::JsonValue& object, std::string_view text)>& each,
    const std::function<void(const Error& error)>& bad) {
  const auto attempt = [&](const auto& read) {
    try {
      read();
    } catch (const Error& error) {
      if (!bad) throw;
      bad(error);
    }
  };
  const std::string content = data_file(path);
  constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
  std::size_t begin = content.starts_with(byte_order_mark) ? byte_order_mark.size() : 0;
  const std::size_t first = content.find_first_not_of(" \t\r\n", begin);
  io::JsonDocument document;
  std::size_t found = 0;
  if (first != std::string::npos && content[first] == '[') {
    const io::JsonValue whole = document.parse(content, path);
    for (const io::JsonValue& item : whole.as_array()) {
      const io::JsonValue object(item.element(), fmt::format("{} item {}", path, ++found));
      attempt([&] {
        require(object.is_object(),
                "{}: found something else than an object, expected an array of objects",
                object.where());
        each(object, object.minified());
      });
    }
    require(found > 0, "{}: the array is empty, expected objects", path);
    return;
  }
  for (std::size_t number = 1; begin < content.size(); ++number) {
    const std::size_t end = std::min(content.find('\n', begin), content.size());
    const std::string_view text =
        python_strip(std::string_view(content).substr(begin, end - begin));
    begin = end + 1;
    if (text.empty()) continue;
    ++found;
    attempt([&] {
      const io::JsonValue line = document.parse(text, fmt::format("{} line {}", path, number));
      require(line.is_object(), "{}: expected a JSON object a line, found {}", line.where(),
              line.is_array() ? "an array" : "another value");
      each(line, text);
    });
  }
  require(found > 0, "{}: the file is empty, expected one JSON object a line", path);
}

}  // namespace qgrpo::train
