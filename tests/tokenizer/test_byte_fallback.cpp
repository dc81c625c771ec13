// SentencePiece vocabularies in other files than its own. The values are those of tokenizers (tools/peers/byte_fallback.py).
#include <doctest/doctest.h>

#include <filesystem>

#include "model/io/file.h"
#include "model/io/json.h"
#include "tokenizer/folder_files.h"
#include "tokenizer/load.h"
#include "tokenizer/sentencepiece_tokenizer.h"
#include "vectors.h"

namespace qgrpo::test {

using namespace tokenizer;
namespace {

// tokenizer.json with other values of some of its keys.
std::string with_keys(const io::JsonValue& root,
                      const std::vector<std::pair<std::string, std::string>>& keys) {
  std::string out = "{";
  for (const auto& [key, value] : root.as_object()) {
    std::string text = value.minified();
    for (const auto& [name, other] : keys) {
      if (name == key) text = other;
    }
    out += (out.size() > 1 ? "," : "") + io::json_string(key) + ":" + text;
  }
  return out + "}";
}

std::string llama_json() {
  return io::read_file(vector_path("tokenizer/byte_fallback/tokenizer.json"));
}

void write_gguf(const std::string& path, const SentencePieceVocab& vocab, std::int64_t size) {
  io::GgufHeader header;
  header.add("general.architecture", "llama");
  add_gguf_sentencepiece(header, vocab, size);
  header.add("tokenizer.ggml.bos_token_id", std::uint32_t{1});
  header.add("tokenizer.ggml.eos_token_id", std::uint32_t{2});
  io::write_file_atomically(path, header.finish());
}

}  // namespace

TEST_CASE("byte fallback: tokenizer.json alone has the ids of tokenizers, in every form") {
  Vectors golden("byte_fallback/golden.json");
  io::JsonDocument document;
  const auto root = document.parse(llama_json(), "tokenizer.json");
  for (const auto& form : golden.root().as_array()) {
    const TemporaryFolder folder;
    folder.write("tokenizer.json",
                 with_keys(root, {{"normalizer", form.at("normalizer").minified()},
                                  {"pre_tokenizer", form.at("pre_tokenizer").minified()}}));
    const auto tokenizer = load_tokenizer(folder.path());
    CHECK(tokenizer->vocab_size() == 601);
    CHECK(tokenizer->token_to_id("<|im_end|>") == 600);
    for (const auto& entry : form.at("encodings").as_array()) {
      const auto text = entry.at("text").as_string();
      CAPTURE(form.at("form").as_string());
      CAPTURE(text);
      CHECK(tokenizer->encode(text) == entry.at("ids").as_ids());
    }
  }
}

TEST_CASE("byte fallback: what is not supported in tokenizer.json alone is named") {
  io::JsonDocument document;
  const auto root = document.parse(llama_json(), "tokenizer.json");
  const TemporaryFolder folder;
  const auto refusal = [&](const std::string& key, const std::string& value) {
    folder.write("tokenizer.json", with_keys(root, {{key, value}}));
    return error_of([&] { load_tokenizer(folder.path()); });
  };
  CHECK(refusal("normalizer", R"({"type": "NFKC"})")
            .find("the normalizer \"NFKC\" is not supported beside byte_fallback") !=
        std::string::npos);
  CHECK(refusal("pre_tokenizer", R"({"type": "Whitespace"})")
            .find("the pre-tokenizer \"Whitespace\"") != std::string::npos);
  CHECK(
      refusal("model", R"({"type": "BPE", "byte_fallback": true, "vocab": {"a": 1}, "merges": []})")
          .find("none of 0 to 0") != std::string::npos);
  CHECK(refusal("model",
                R"({"type": "BPE", "byte_fallback": true, "vocab": {"a": 0}, "merges": ["a b"]})")
            .find("merge 0 makes no token") != std::string::npos);
  CHECK(
      refusal("model", R"({"type": "BPE", "byte_fallback": true, "vocab": {"a": 0}, "merges": []})")
          .find("no unknown token") != std::string::npos);
}

TEST_CASE("byte fallback: a vocabulary through a GGUF file and back to a folder") {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", llama_json());
  const auto source = load_tokenizer(folder.path());
  const std::string path = folder.path() + "/m.gguf";
  write_gguf(path, sentencepiece_vocab(folder.path()), 610);
  const auto read = load_tokenizer(path);
  CHECK(read->vocab_size() == 610);
  CHECK(read->token_to_id("<|im_end|>") == 600);
  CHECK(read->is_special(600));
  const TemporaryFolder back;
  copy_folder_files(path, back.path(), {});
  const auto again = load_tokenizer(back.path());
  Vectors golden("byte_fallback/golden.json");
  for (const auto& entry : golden.root().as_array()[0].at("encodings").as_array()) {
    const auto text = entry.at("text").as_string();
    CAPTURE(text);
    CHECK(read->encode(text) == entry.at("ids").as_ids());
    CHECK(again->encode(text) == entry.at("ids").as_ids());
    CHECK(read->decode(source->encode_rendered(text)) ==
          source->decode(source->encode_rendered(text)));
  }
}

}  // namespace qgrpo::test
