#include <doctest/doctest.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "model/ops/error.h"
#include "train/data/data_file.h"
#include "train/data/dataset.h"
#include "train/data/files/unpack.h"
#include "train/data/shapes.h"

// The files and the shapes that data sets come in, and what is said of those that are not read.
namespace qgrpo::train {
namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder()
      : path_((fs::temp_directory_path() / fmt::format("qgrpo-json-lines-{}-{}", getpid(), ++made_))
                  .string()) {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(path_ + "/" + name, std::ios::binary) << content;
    return path_ + "/" + name;
  }
  const std::string& path() const { return path_; }

 private:
  static inline int made_ = 0;
  std::string path_;
};

std::string zipped(const std::string& text) {
  const Folder folder;
  const std::string path = folder.path() + "/x.gz";
  gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::string zstd_packed(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

std::vector<Example> read(const std::string& path, const DatasetOptions& options = {}) {
  return read_dataset(std::vector<std::string>{path}, options);
}

std::string refusal(const std::string& path, const DatasetOptions& options = {}) {
  try {
    read(path, options);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string refused_text(const std::string& content, const DatasetOptions& options = {}) {
  const Folder folder;
  return refusal(folder.write("d.jsonl", content), options);
}

Example read_line(const std::string& line, const DatasetOptions& options = {}) {
  const Folder folder;
  return read(folder.write("d.jsonl", line), options).front();
}

void check_contains(const std::string& text, const std::string& part) {
  CAPTURE(text);
  CAPTURE(part);
  CHECK(text.find(part) != std::string::npos);
}

const std::string kLine = R"({"question": "1+1?", "answer": "#### 2"})";

}  // namespace

TEST_CASE("data files: lines, an array, gzip, a byte order mark, a comma in the name") {
  for (const std::string& content :
       {kLine, kLine + "\n", "\xef\xbb\xbf" + kLine + "\r\n", "[" + kLine + "]",
        "\xef\xbb\xbf \n[\n " + kLine + "\n]\n", "\n\n" + kLine}) {
    CAPTURE(content);
    const Folder folder;
    for (const std::string& path :
         {folder.write("a,b.jsonl", content), folder.write("a.json", content)}) {
      const auto examples = read(path);
      REQUIRE(examples.size() == 1);
      CHECK(examples[0].question == "1+1?");
      CHECK(examples[0].answer == "2");
    }
  }
  const std::string packed = zipped(kLine + "\n");
  const Folder folder;
  CHECK(read(folder.write("d.jsonl.gz", packed)).size() == 1);
  CHECK(read(folder.write("d.gz", packed + packed)).size() == 2);  // members that follow each other
  CHECK(read(folder.write("d.gz", zipped("[" + kLine + "," + kLine + "]"))).size() == 2);
  check_contains(refusal(folder.write("d.gz", packed.substr(0, packed.size() - 6))),
                 "d.gz: the gzip file is damaged or cut off");
  const std::string frame = zstd_packed(kLine + "\n");
  CHECK(read(folder.write("d.jsonl.zst", frame)).size() == 1);
  CHECK(read(folder.write("d.zst", frame + frame)).size() == 2);
  for (std::size_t cut : {std::size_t{5}, frame.size() / 2, frame.size() - 1}) {
    check_contains(refusal(folder.write("d.zst", frame.substr(0, cut))),
                   "d.zst: the zstd file is damaged");
  }
  check_contains(refusal(folder.write("d.zst", frame + "more")), "d.zst: the zstd file is damaged");
  DatasetOptions lines;
  lines.keep_lines = true;
  CHECK(read(folder.write("d.json", "[\n" + kLine + "\n]"), lines)[0].line ==
        R"({"question":"1+1?","answer":"#### 2"})");
}

TEST_CASE("data files: what is no text of JSON is named, with the way to get one") {
  const Folder folder;
  check_contains(refusal(folder.write("d.parquet", "PAR1\x15\x04")),
                 "d.parquet: the Parquet file is cut off");
  check_contains(refusal(folder.write("d.arrow", "ARROW1")), "Dataset.from_file(");
  check_contains(refusal(folder.write("d.zip", "PK\x03\x04..")), "unzip");
  check_contains(refusal("openai/gsm8k"), "curl -LO https://");
  check_contains(refusal("owner/name"), "load_dataset('owner/name', split='train').to_json(");
  check_contains(refusal(folder.path() + "/none.jsonl"), "none.jsonl: ");
  folder.write("train.jsonl", kLine);
  check_contains(refusal(folder.path()), "is a folder, expected a file of JSON lines, such as ");
  const std::string one = folder.write("a.jsonl", kLine);
  check_contains(refusal(one + "," + one), "name each with an option of its own");
}

TEST_CASE("data files: columns by their name, packed or not; JSON under such a name is JSON") {
  const std::string csv = "\xef\xbb\xbfprompt,answer\r\n\"1+1,\n2?\",2\r\nb,3\r\n";
  const Folder folder;
  for (const std::string& path :
       {folder.write("d.csv", csv), folder.write("d.csv.gz", zipped(csv)),
        folder.write("d.csv.zst", zstd_packed(csv)),
        folder.write("d.tsv", "prompt\tanswer\n\"1+1,\n2?\"\t2\nb\t3\n")}) {
    CAPTURE(path);
    const auto examples = read(path);
    REQUIRE(examples.size() == 2);
    CHECK(examples[0].question == "1+1,\n2?");
    CHECK(examples[0].answer == "2");  // a number's text
    CHECK(examples[1].where == path + " line 4");
  }
  CHECK(read(folder.write("lines.csv", kLine)).size() == 1);
  check_contains(refusal(folder.write("d.csv", "prompt\na,b\n")), "d.csv line 2: found 2 fields");
  check_contains(refusal(folder.write("d.csv", "prompt\nco\xfbte\n")),
                 "d.csv line 2: is not UTF-8");
  check_contains(refusal(folder.write("d.csv", "q;a\n1;2\n")), "found \"q;a\"");
}

TEST_CASE("data files: what unpacks to more than there is room for is refused on the way") {
  const std::string zeros(std::size_t{64} << 20, '\0');
  for (const std::string& packed : {zipped(zeros), zstd_packed(zeros)}) {
    CHECK(packed.size() < 100000);
    const Packing packing = packing_of(packed);
    CHECK(unpack(packed, packing, "d") == zeros);
    std::string message;
    try {
      unpack(packed, packing, "d", 1 << 20);
    } catch (const Error& error) {
      message = error.what();
    }
    check_contains(message, "d: unpacked it has more than 1.0 MB, expected at most that");
  }
}

TEST_CASE("data files: malformed lines are named in the words of whoever wrote them") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"question": "a", "answer": "#### 7", "score": NaN})", "\"score\" is NaN"},
      {R"({"question": "a", "score": -Infinity})", "\"score\" is -Infinity"},
      {R"({"question": "a", "id": 123456789012345678901234567890})",
       "\"id\" is 123456789012345678901234567890, a whole number of more than 64 bits"},
      {R"({"question": "a", "score": 1e999})", "beyond what a double holds"},
      {R"({"question": "a", "ok": True})", "Python's True; expected true"},
      {R"({"question": "a", "ok": None})", "Python's None; expected null"},
      {"{'question': 'a'}", "a single quote"},
      {"# comment\n" + kLine, "a comment"},
      {R"({"question": "a", })", "a comma before the closing }"},
      {kLine + ",\n", "a comma behind the object"},
      {kLine + kLine, "something stands behind the first value"},
      {kLine + "\r" + kLine, "something stands behind the first value"},
      {"{\n\"question\": \"a\"\n}", "it ends inside an object"},
      {"{\"question\": \"How\tmany?\"}", "the control character 0x09"},
      {R"x({"question": "\(x\)"})x", "the escape \\("},
      {R"({"question": "\ud83d x"})", "\\ud83d, half of a character"},
      {"{\"question\": \"co\xfbte\"}", "byte 17 (0xfb) is not UTF-8"},
      {std::string("\xff\xfe{\0", 4), "it is UTF-16"},
      {"question,answer\n", "question, expected a value in JSON"},
  };
  for (const auto& [content, part] : cases) {
    const std::string message = refused_text(content);
    check_contains(message, "d.jsonl line 1: not valid JSON (");
    check_contains(message, part);
  }
  check_contains(refused_text("[" + kLine + ", 3]"), "item 2: found something else than an object");
  check_contains(refused_text("[]"), "the array is empty");
  check_contains(refused_text("[" + kLine + ",]"), "a comma before the closing ]");
  // 64 bits are read.
  CHECK(read_line(R"({"question": "a", "answer": "#### 7", "id": 18446744073709551615})").answer ==
        "7");
}

TEST_CASE("data shapes: other programs' keys are recognised") {
  const Example open_r1 =
      read_line(R"({"problem": "2+5?", "solution": "so \\boxed{\\frac{7}{1}}"})");
  CHECK(open_r1.question == "2+5?");
  CHECK(open_r1.answer == "\\frac{7}{1}");
  CHECK(open_r1.columns[1].second == R"("so \\boxed{\\frac{7}{1}}")");  // as the file has it
  CHECK(read_line(R"({"problem": "a", "solution": "x", "answer": "y"})").answer == "y");

  const Example verl =
      read_line(R"({"prompt": [{"role": "user", "content": "How many?"}], "reward_model": )"
                R"({"style": "rule", "ground_truth": "72"}})");
  CHECK(verl.messages.size() == 1);
  CHECK(verl.answer == "72");
  DatasetOptions inner;
  inner.answer_column = "extra.gold";
  CHECK(read_line(R"({"question": "a", "extra": {"gold": 3}})", inner).answer == "3");

  const Example alpaca = read_line(R"({"instruction": "Add.", "input": "1 and 2", "output": "3"})");
  CHECK(alpaca.question == "Add.\n1 and 2");
  CHECK(alpaca.answer == "3");
  CHECK(alpaca.messages.empty());
  const Example dolly = read_line(R"({"instruction": "Add.", "context": "", "response": "3"})");
  CHECK(dolly.question == "Add.");
  CHECK(dolly.answer == "3");
  const Example history = read_line(
      R"({"instruction": "And 3?", "output": "6", "system": "Be short.", "history": [["1+2?", "3"]]})");
  REQUIRE(history.messages.size() == 4);
  CHECK(history.messages[0].role == "system");
  CHECK(history.messages[3].content == "And 3?");
  CHECK(history.answer == "6");

  const Example sharegpt = read_line(
      R"({"system": "Be kind.", "conversations": [{"from": "human", "value": "a"}, )"
      R"({"from": "gpt", "value": "b"}, {"from": "human", "value": "c"}, {"from": "gpt", "value": "d"}]})");
  REQUIRE(sharegpt.messages.size() == 4);
  CHECK(sharegpt.messages[0].content == "Be kind.");
  CHECK(sharegpt.messages[2].role == "assistant");
  CHECK(sharegpt.answer == "d");
  CHECK(sharegpt.messages_json.starts_with(R"([{"role":"system","content":"Be kind."})"));
  CHECK(read_line(R"({"messages": [{"from": "human", "value": "a"}]})").messages[0].role == "user");
  CHECK(read_line(R"({"conversations": [{"role": "user", "content": "a"}]})").question == "a");
  check_contains(refused_text(R"({"conversations": [{"from": "narrator", "value": "a"}]})"),
                 "found \"narrator\", expected human, gpt, system or tool");
}

TEST_CASE("data shapes: a missing column lists the keys and names the option") {
  check_contains(refused_text(R"({"query": "a", "response": "b", "meta": {"level": 1}})"),
                 "found \"query\", \"response\", \"meta\", \"meta.level\"; name the key with "
                 "--prompt-column");
  DatasetOptions needed;
  needed.answer_required = true;
  check_contains(refused_text(R"({"prompt": "a", "gold": "b"})", needed),
                 "line 1: the key \"answer\" is missing; found \"prompt\", \"gold\"; name the key "
                 "with --answer-column");
  check_contains(refused_text(R"({"question": "a", "answer": null})"), "\"answer\" is null");
  check_contains(refused_text(kLine + "\n" + R"({"prompt": "B?", "answer": "#### 2"})"),
                 "line 2: the key \"question\" is missing; found \"prompt\", \"answer\"; name the "
                 "key with --prompt-column");
}

}  // namespace qgrpo::train
