// The models and expected values were made with the Python package sentencepiece.
#include <doctest/doctest.h>

#include <filesystem>

#include "tokenizer/load.h"
#include "vectors.h"

namespace qgrpo::test {

using namespace tokenizer;
namespace {

void check_model(const std::string& name) {
  const auto tokenizer = load_tokenizer(vector_path("tokenizer/" + name));
  Vectors golden(name + "/golden.json");
  CHECK(tokenizer->vocab_size() == golden.root().at("size").as_int());
  for (const auto& entry : golden.root().at("encodings").as_array()) {
    const auto text = entry.at("text").as_string();
    CAPTURE(text);
    const auto ids = entry.at("ids").as_ids();
    CHECK(tokenizer->encode(text) == ids);
    CHECK(tokenizer->decode(ids) == entry.at("decoded").as_string());
  }
  for (const auto& entry : golden.root().at("decodings").as_array()) {
    const auto ids = entry.at("ids").as_ids();
    const auto decoded = entry.at("decoded").as_string();
    CHECK(tokenizer->decode(ids) == decoded);
    check_stream(*tokenizer, ids, false, decoded);
  }
}

}  // namespace

TEST_CASE("SentencePiece unigram model with NFKC normalisation and a user-defined symbol") {
  check_model("sentencepiece");
}

TEST_CASE("SentencePiece BPE model with byte fallback that keeps white space") {
  check_model("sentencepiece_llama");
}

// The ids are those of transformers' LlamaTokenizer of this model, with legacy true and false.
TEST_CASE("SentencePiece: a converted tokenizer.json says where a text gets its space") {
  const TemporaryFolder folder;
  std::filesystem::copy(vector_path("tokenizer/sentencepiece_llama/tokenizer.model"),
                        folder.path() + "/tokenizer.model");
  const auto loaded = [&](const std::string& rest) {
    folder.write("tokenizer.json",
                 R"({"model": {"type": "BPE", "byte_fallback": true, "vocab": {}, "merges": []})" +
                     rest + "}");
    return load_tokenizer(folder.path());
  };
  using Ids = std::vector<std::int32_t>;
  const auto first =
      loaded(R"(, "pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "first"})");
  CHECK(first->encode("Ada") == Ids{370});
  CHECK(first->encode(" Ada") == Ids{370});
  CHECK(first->encode("Ada</s>Ada") == Ids{370, 2, 369});
  CHECK(first->encode("Ada</s> Ada") == Ids{370, 2, 370});
  CHECK(first->encode("</s>Ada") == Ids{2, 369});
  const auto always =
      loaded(R"(, "pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "always"})");
  CHECK(always->encode("Ada</s>Ada") == Ids{370, 2, 370});
  CHECK(always->encode("Ada</s> Ada") == Ids{370, 2, 370});
  // Normalizers, as in older files, do what SentencePiece does.
  CHECK(loaded("")->encode("Ada</s>Ada") == Ids{370, 2, 370});

  const auto around = loaded(
      R"(, "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]})");
  CHECK(around->encode("Ada", SpecialText::kParse, TokensAround::kAdd) == Ids{1, 370});
  CHECK(around->encode_rendered("Ada") == Ids{370});
  folder.write("tokenizer_config.json", R"({"add_bos_token": false})");
  CHECK(load_tokenizer(folder.path())->encode("Ada", SpecialText::kParse, TokensAround::kAdd) ==
        Ids{370});
  std::filesystem::remove(folder.path() + "/tokenizer.model");
  CHECK(error_of([&] { load_tokenizer(folder.path()); }).find("no unknown token") !=
        std::string::npos);  // the vocabulary is empty
}

TEST_CASE("SentencePiece: control tokens and tokenizer_config.json") {
  const TemporaryFolder folder;
  std::filesystem::copy(vector_path("tokenizer/sentencepiece_llama/tokenizer.model"),
                        folder.path() + "/tokenizer.model");
  const auto bare = load_tokenizer(folder.path());
  const auto ada = bare->encode("Ada");
  auto closed = ada;
  closed.push_back(2);
  CHECK(bare->encode("Ada</s>") == closed);
  CHECK(bare->decode(closed) == "Ada</s>");
  CHECK(bare->decode(closed, true) == "Ada");
  CHECK(bare->is_special(2));
  CHECK(bare->token_to_id("</s>") == 2);
  CHECK(bare->id_to_token(2) == "</s>");
  CHECK_FALSE(bare->token_to_id("no such piece").has_value());
  for (const auto id : bare->encode("Ada</s>", SpecialText::kPlain)) CHECK(id != 2);

  folder.write("tokenizer_config.json",
               R"({"add_bos_token": true, "added_tokens_decoder": {"2": {"content": "</s>"},
                   "600": {"content": "<|im_end|>", "special": true}}})");
  const auto extended = load_tokenizer(folder.path());
  std::vector<std::int32_t> expected = {1};
  expected.insert(expected.end(), ada.begin(), ada.end());
  expected.push_back(600);
  CHECK(extended->encode("Ada<|im_end|>") == expected);
  CHECK(extended->decode(expected, true) == "Ada");
  CHECK(extended->vocab_size() == 601);
  CHECK(error_of([&] { extended->decode(std::vector<std::int32_t>{601}); }).find("id 601") !=
        std::string::npos);

  folder.write("tokenizer.model", "not a model");
  CHECK(error_of([&] { load_tokenizer(folder.path()); }).find("tokenizer.model") !=
        std::string::npos);
}

}  // namespace qgrpo::test
