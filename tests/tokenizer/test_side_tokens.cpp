// What the files beside tokenizer.json say of added tokens. Expected values: transformers 5.24,
// AutoTokenizer of the same files (Qwen2Tokenizer, and PreTrainedTokenizerFast where it is named).
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <filesystem>

#include "model/io/file.h"
#include "model/io/notes.h"
#include "tokenizer/load.h"
#include "vectors.h"

namespace qgrpo::test {

using namespace tokenizer;
namespace {

using Ids = std::vector<std::int32_t>;

std::string entry(const std::string& content, bool special, const std::string& more = "") {
  return fmt::format(R"({{"content": "{}", "normalized": false, "special": {}{}}})", content,
                     special, more);
}

// The small tokenizer's own three, as tokenizer_config.json lists them, with more behind.
std::string decoder(const std::string& more, const std::string& im_end) {
  return fmt::format(R"("added_tokens_decoder": {{"997": {}, "998": {}, "999": {}{}}})",
                     entry("<|endoftext|>", true), entry("<|im_start|>", true), im_end, more);
}
std::string decoder(const std::string& more = "") {
  return decoder(more, entry("<|im_end|>", true));
}

// The small tokenizer's tokenizer.json with other files beside it.
class Folder {
 public:
  explicit Folder(const std::string& config, const char* type = "Qwen2Tokenizer") {
    folder_.write("tokenizer.json", io::read_file(vector_path("tokenizer/small/tokenizer.json")));
    folder_.write("tokenizer_config.json", fmt::format(R"({{"tokenizer_class": "{}"{}{}}})", type,
                                                       config.empty() ? "" : ", ", config));
  }
  const Folder& write(const char* name, const std::string& text) const {
    folder_.write(name, text);
    return *this;
  }
  std::unique_ptr<Tokenizer> load() const { return load_tokenizer(folder_.path()); }
  std::string error() const {
    return error_of([&] { load(); });
  }

 private:
  TemporaryFolder folder_;
};

void check(const Tokenizer& tokenizer, const std::string& text, const Ids& ids,
           const std::string& without_special) {
  CAPTURE(text);
  CHECK(tokenizer.encode(text) == ids);
  CHECK(tokenizer.decode(ids, true) == without_special);
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

const std::string kNotSpecial = R"({"id": 999, "content": "<|im_end|>", "special": false})";

}  // namespace

TEST_CASE("side tokens: tokenizer_config.json adds tokens to tokenizer.json") {
  const std::string more = ", \"1000\": " + entry("<|new|>", false);
  const std::string text = "x<|new|>y<|im_end|>";
  check(*Folder(decoder(more)).load(), text, {87, 1000, 88, 999}, "x<|new|>y");
  check(*Folder(decoder(more), "PreTrainedTokenizerFast").load(), text, {87, 1000, 88, 999},
        "x<|new|>y");
  // One that lists only the new ones; PreTrainedTokenizerFast's value.
  check(*Folder("\"added_tokens_decoder\": {\"1000\": " + entry("<|new|>", false) + "}").load(),
        text, {87, 1000, 88, 999}, "x<|new|>y");
  // A token that the vocabulary has keeps its id.
  check(*Folder(decoder(", \"1000\": " + entry("he", false))).load(), "the hehe",
        {83, 259, 220, 259, 259}, "the hehe");
}

TEST_CASE("side tokens: flags of tokenizer_config.json go before tokenizer.json's") {
  const std::string plain = decoder("", entry("<|im_end|>", false));
  check(*Folder(plain).load(), "x<|im_end|>y", {87, 999, 88}, "x<|im_end|>y");
  check(*Folder(plain, "PreTrainedTokenizerFast").load(), "x<|im_end|>y", {87, 999, 88}, "xy");
  const std::string strip =
      decoder("", entry("<|im_end|>", true, R"(, "lstrip": true, "rstrip": true)"));
  check(*Folder(strip).load(), "x <|im_end|> y", {87, 999, 88}, "xy");

  std::string json = io::read_file(vector_path("tokenizer/small/tokenizer.json"));
  const auto at = json.find(R"({"id": 999)");
  REQUIRE(at != std::string::npos);
  json.replace(at, json.find('}', at) + 1 - at, kNotSpecial);
  const auto unset = [&](const std::string& config, const char* type = "Qwen2Tokenizer") {
    return Folder(config, type).write("tokenizer.json", json).load();
  };
  check(*unset(decoder()), "x<|im_end|>y", {87, 999, 88}, "xy");
  const std::string named = R"("additional_special_tokens": ["<|im_end|>"])";
  check(*unset(named), "x<|im_end|>y", {87, 999, 88}, "xy");
  check(*unset(named, "PreTrainedTokenizerFast"), "x<|im_end|>y", {87, 999, 88}, "x<|im_end|>y");
}

TEST_CASE("side tokens: special tokens by name are added where they are new") {
  check(*Folder(R"("eos_token": "<|fin|>")").load(), "x<|fin|>y", {87, 1000, 88}, "xy");
  check(*Folder(R"("eos_token": "<|fin|>", )" + decoder()).load(), "x<|fin|>y", {87, 1000, 88},
        "xy");
  check(*Folder(R"("pad_token": {"content": "<|padx|>"})").load(), "x<|padx|>y", {87, 1000, 88},
        "xy");
  check(*Folder(R"("additional_special_tokens": ["<|new|>", "<tool_call>"])").load(),
        "x<|new|>y<tool_call>", {87, 1000, 88, 1001}, "xy");
  check(*Folder(R"("extra_special_tokens": {"image_token": "<|img|>"})").load(), "x<|img|>y",
        {87, 1000, 88}, "xy");
}

TEST_CASE("side tokens: the older files count where there is no added_tokens_decoder") {
  const std::string added = R"({"<|new|>": 1000})";
  const std::string map = R"({"eos_token": "<|fin|>", "additional_special_tokens": ["<|new|>"]})";
  check(*Folder("").write("added_tokens.json", added).load(), "x<|new|>y", {87, 1000, 88},
        "x<|new|>y");
  check(*Folder("").write("special_tokens_map.json", map).load(), "x<|new|>y<|fin|>",
        {87, 1001, 88, 1000}, "xy");
  const Folder with_decoder(decoder());
  with_decoder.write("added_tokens.json", added).write("special_tokens_map.json", map);
  CHECK(with_decoder.load()->vocab_size() == 1000);
}

TEST_CASE("side tokens: what contradicts itself is said or refused") {
  std::vector<std::string> notes;
  io::set_note_sink([&](const std::string& text) { notes.push_back(text); });
  check(*Folder(decoder(", \"1010\": " + entry("<|new|>", false))).load(), "x<|new|>y",
        {87, 1000, 88}, "x<|new|>y");
  io::set_note_sink({});
  REQUIRE(notes.size() == 1);
  CHECK(contains(notes[0], "\"<|new|>\" has the id 1000, as transformers counts it, not 1010"));

  const std::string conflict = Folder(decoder("", entry("<|other|>", true))).error();
  CHECK(contains(conflict, "id 999 is \"<|other|>\""));
  CHECK(contains(conflict, "tokenizer.json has \"<|im_end|>\" there"));
  CHECK(contains(Folder(R"("split_special_tokens": true)").error(), "split_special_tokens"));
  CHECK(contains(Folder(R"("add_prefix_space": true)").error(), "add_prefix_space"));
  CHECK(contains(Folder(R"("added_tokens_decoder": {"x": {"content": "a"}})").error(),
                 "\"x\" is not a token id"));
}

}  // namespace qgrpo::test
