// What the loaders refuse, and what they read besides Qwen's own settings.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <filesystem>

#include "model/io/file.h"
#include "tokenizer/load.h"
#include "tokenizer/pretokenizer.h"
#include "vectors.h"

namespace qgrpo::test {

using namespace tokenizer;
namespace {

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

const std::string& small_json() {
  static const std::string text = io::read_file(vector_path("tokenizer/small/tokenizer.json"));
  return text;
}

// The small tokenizer with one change.
std::unique_ptr<Tokenizer> changed(const std::string& from, const std::string& to) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", replaced(small_json(), from, to));
  return load_tokenizer(folder.path());
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Where the settings of an added token begin in the small tokenizer's file.
std::string token_entry(const char* flags) {
  return std::string(R"({"id": 999, "content": "<|im_end|>", )") + flags + "}";
}
const std::string kPlainEntry = token_entry(
    R"("single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true)");

}  // namespace

TEST_CASE("a folder without a tokenizer is refused, naming what is missing") {
  const TemporaryFolder folder;
  const auto error = [&] { return error_of([&] { load_tokenizer(folder.path()); }); };
  CHECK(contains(error(), "has no tokenizer: expected tokenizer.json"));
  CHECK(contains(error_of([&] { load_tokenizer(folder.path() + "/no"); }), "is not a folder"));
  folder.write("vocab.json", "{\"a\":0}");
  CHECK(contains(error(), "no merges.txt"));
  folder.write("merges.txt", "a b\n");
  CHECK(contains(error(), "needs the token \"b\""));
  folder.write("merges.txt", "a b c\n");
  CHECK(contains(error(), "merges.txt line 1"));
  folder.write("vocab.json", "{\"a\":0,");
  CHECK(contains(error(), "vocab.json"));
  folder.write("vocab.json", "{\"a\":-1}");
  CHECK(contains(error(), "vocab.json"));
  folder.write("vocab.json", "{}");
  folder.write("merges.txt", "");
  CHECK(contains(error(), "empty"));
}

TEST_CASE("what is not supported in tokenizer.json is refused") {
  const auto error = [&](const std::string& from, const std::string& to) {
    return error_of([&] { changed(from, to); });
  };
  CHECK(contains(error(R"("type": "BPE")", R"("type": "Unigram")"), "\"Unigram\""));
  CHECK(contains(error(R"("type": "NFC")", R"("type": "NFKC")"), "\"NFKC\""));
  CHECK(contains(error(R"("type": "Split")", R"("type": "Digits")"), "\"Digits\""));
  CHECK(contains(error(R"("behavior": "Isolated")", R"("behavior": "Removed")"), "\"Removed\""));
  CHECK(contains(error(R"("invert": false)", R"("invert": true)"), "invert"));
  CHECK(contains(error(R"("add_prefix_space": false)", R"("add_prefix_space": true)"),
                 "add_prefix_space"));
  CHECK(contains(error(R"("byte_fallback": false)", R"("byte_fallback": true)"), "byte_fallback"));
  CHECK(contains(error(R"("dropout": null)", R"("dropout": 0.1)"), "dropout"));
  CHECK(contains(error(R"("end_of_word_suffix": "")", R"("end_of_word_suffix": "</w>")"), "</w>"));
  CHECK(contains(error(R"("vocab": {)", R"("vocab": {"!!!!!!!": 0, )"), "same id 0"));
  for (const char* high : {"99999999", "16777215", "1048576"}) {
    CHECK(contains(error(R"("id": 999)", std::string("\"id\": ") + high),
                   std::string("token \"<|im_end|>\" has the id ") + high + ", which is too high"));
  }
  CHECK(contains(error(R"("id": 999)", R"("id": 5)"), "same id 5"));
  CHECK(contains(error(R"(?i:)", R"(?i()"), "pattern"));
  CHECK(contains(error(R"("merges": [)", R"("merges": ["nospace", )"), "merge 0"));
  CHECK(contains(error_of([] {
                   const TemporaryFolder folder;
                   folder.write("tokenizer.json", small_json().substr(0, 9000));
                   load_tokenizer(folder.path());
                 }),
                 "tokenizer.json"));
}

TEST_CASE("merges as pairs, unused ids, and a missing normalizer") {
  const auto first = load_tokenizer(vector_path("tokenizer/small"));
  Vectors file("small/tokenizer.json");
  const auto merge = file.root().at("model").at("merges").as_array()[0].as_string();
  const auto space = merge.find(' ');
  const auto pair = fmt::format("[{}, {}]", io::json_string(merge.substr(0, space)),
                                io::json_string(merge.substr(space + 1)));
  const auto second = changed("\"merges\": [" + io::json_string(merge), "\"merges\": [" + pair);
  const std::string text = "The quick brown fox jumps over the lazy dog";
  CHECK(second->encode(text) == first->encode(text));

  const auto sparse = changed(R"("id": 999)", R"("id": 1005)");
  CHECK(sparse->vocab_size() == 1006);
  CHECK(contains(error_of([&] { sparse->decode(std::vector<std::int32_t>{1000}); }), "unused"));
  CHECK(contains(error_of([&] { sparse->decode(std::vector<std::int32_t>{1006}); }), "id 1006"));
  CHECK(contains(error_of([&] { sparse->decode(std::vector<std::int32_t>{-1}); }), "id -1"));

  const auto raw = changed(R"({"type": "NFC"})", "null");
  CHECK(raw->decode(raw->encode("e\u0301")) == "e\u0301");
  CHECK(first->decode(first->encode("e\u0301")) == "\u00e9");
}

TEST_CASE("text that is not UTF-8 is refused") {
  const auto tokenizer = load_tokenizer(vector_path("tokenizer/small"));
  CHECK(contains(error_of([&] { tokenizer->encode("a\xFF"); }), "UTF-8"));
}

TEST_CASE("flags of added tokens") {
  // Expected values: tokenizers 0.23.3 with the same change.
  const auto with = [](const char* flags) { return changed(kPlainEntry, token_entry(flags)); };
  const auto end = std::int32_t{999};
  const auto strip = with(
      R"("single_word": false, "lstrip": true, "rstrip": true, "normalized": false, "special": true)");
  const auto a = *strip->token_to_id("a");
  const auto b = *strip->token_to_id("b");
  CHECK(strip->encode("a \n <|im_end|>\t\u3000 b") == std::vector{a, end, b});
  CHECK(strip->encode("a <|im_end|> <|im_end|> b") == std::vector{a, end, end, b});
  const auto word = with(
      R"("single_word": true, "lstrip": false, "rstrip": false, "normalized": false, "special": true)");
  CHECK(word->encode("a<|im_end|>").size() > 2);
  CHECK(word->encode("(<|im_end|>)").size() == 3);
  CHECK(word->encode("\u00e9<|im_end|>").size() > 3);
  const auto ordinary = with(
      R"("single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": false)");
  CHECK(ordinary->encode("a<|im_end|>b", SpecialText::kPlain) == std::vector{a, end, b});
  CHECK(ordinary->decode(std::vector{a, end, b}, true) == "a<|im_end|>b");
}

TEST_CASE("a template post-processor puts tokens around every text") {
  const std::string bytes =
      R"("post_processor": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false})";
  const auto tokenizer = changed(
      bytes,
      R"("post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "B", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {"B": {"id": "B", "ids": [998], "tokens": ["<|im_start|>"]}}})");
  CHECK(tokenizer->encode("a") == std::vector<std::int32_t>{998, *tokenizer->token_to_id("a")});
  CHECK(tokenizer->encode("") == std::vector<std::int32_t>{998});
}

TEST_CASE("ByteLevel with its own pattern, and ignore_merges") {
  // GPT-2's pattern keeps digits together, so "12" may be one token where merges allow it.
  const auto file = small_json();
  const auto begin = file.find(R"({"type": "Split")");
  const auto behind = file.find(R"({"type": "ByteLevel")", begin);
  REQUIRE(begin != std::string::npos);
  const TemporaryFolder folder;
  auto text = file.substr(0, begin) + file.substr(behind);
  text = replaced(text, R"("use_regex": false)", R"("use_regex": true)");
  text = replaced(text, R"("merges": [)", R"("merges": ["1 2", )");
  text = replaced(text, R"("vocab": {)", R"("vocab": {"12": 1000, "abc\u0120d": 1001, )");
  folder.write("tokenizer.json", text);
  const auto gpt2 = load_tokenizer(folder.path());
  CHECK(gpt2->encode("12") == std::vector<std::int32_t>{1000});

  text = replaced(file, R"("vocab": {)", R"("vocab": {"zqzqz": 1000, )");
  folder.write("tokenizer.json", text);
  CHECK(load_tokenizer(folder.path())->encode("zqzqz").size() > 1);
  folder.write("tokenizer.json",
               replaced(text, R"("ignore_merges": false)", R"("ignore_merges": true)"));
  CHECK(load_tokenizer(folder.path())->encode("zqzqz") == std::vector<std::int32_t>{1000});
}

TEST_CASE("a tokenizer's files are regular ones of a bounded size") {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/tokenizer.json";
  const auto error = [&] { return error_of([&] { load_tokenizer(folder.path()); }); };
  REQUIRE(mkfifo(path.c_str(), 0600) == 0);  // nobody writes to it: reading would wait for ever
  CHECK(error_of([&] { io::read_file(path); }) == path + ": is a pipe, expected a file");
  CHECK(error_of([&] { io::MappedFile{path}; }) == path + ": is a pipe, expected a file");
  CHECK(contains(error(), "tokenizer.json"));
  std::filesystem::remove(path);
  std::filesystem::create_symlink("/dev/zero", path);
  CHECK(error_of([&] { io::read_file(path); }) == path + ": is a device, expected a file");
  CHECK(error_of([&] { io::MappedFile{path}; }) == path + ": is a device, expected a file");
  CHECK(contains(error(), "tokenizer.json"));
  std::filesystem::remove(path);
  std::filesystem::create_directory(path);
  CHECK(contains(error_of([&] { io::read_file(path); }), "is a folder, expected a file"));
  std::filesystem::remove(path);
  folder.write("tokenizer.json", "{}");
  std::filesystem::resize_file(path, io::kMostFileBytes + 1);  // holes: it takes no room
  CHECK(contains(error(), "tokenizer.json: holds 1073741825 bytes, more than the 1024 MiB"));
  folder.write("tokenizer.json", small_json());
  folder.write("tokenizer_config.json", "{}");
  std::filesystem::resize_file(folder.path() + "/tokenizer_config.json", io::kMostConfigBytes + 1);
  CHECK(contains(error(), "tokenizer_config.json: holds 67108865 bytes, more than the 64 MiB"));
  CHECK(io::read_file("/proc/self/status").size() > 100);  // the system does not say how long it is
}

TEST_CASE("a pattern that tries the same characters in ever new ways is stopped") {
  const PreTokenizer pattern("(a+)+$|(a|aa)+b", "T");
  PreTokenizer::Match match(pattern);
  std::vector<std::size_t> ends;
  const auto split = [&](const std::string& text) {
    ends.clear();
    pattern.split(text, match, [&](std::size_t, std::size_t end) { ends.push_back(end); });
  };
  CHECK(contains(error_of([&] { split(fmt::format("{:a>5000}", '!')); }),
                 "T: the pre-tokenizer's pattern does not come to an end at byte 0"));
  split("aab!");  // the next text is searched as the first
  CHECK(ends == std::vector<std::size_t>{3, 4});
  CHECK(
      contains(error_of([] { PreTokenizer("(", "T"); }), "T: the pre-tokenizer's pattern is not"));
}

TEST_CASE("the known patterns are not stopped in megabytes of white space") {
  for (const char* known : {kQwen2Pattern, kGpt2Pattern}) {
    const PreTokenizer pattern(known, "T");
    PreTokenizer::Match match(pattern);
    std::string text;
    text.resize(std::size_t{8} << 20, ' ');
    text += "x";
    std::vector<std::size_t> ends;
    pattern.split(text, match, [&](std::size_t, std::size_t end) { ends.push_back(end); });
    CHECK(ends == std::vector<std::size_t>{text.size() - 2, text.size()});
  }
}

}  // namespace qgrpo::test
