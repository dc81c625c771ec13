#include <doctest/doctest.h>

#include "model/io/file.h"
#include "tokenizer/bpe_trainer.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/load.h"
#include "vectors.h"

namespace qgrpo::test {

using namespace tokenizer;
namespace {

std::string joined(const std::vector<std::pair<std::string, std::string>>& merges) {
  std::string text;
  for (const auto& [left, right] : merges) text += left + "+" + right + " ";
  return text;
}

}  // namespace

TEST_CASE("training on the golden texts gives the small tokenizer's files byte for byte") {
  // Hugging Face loads these files and gives the ids of small/encodings.json with them.
  std::vector<std::string> texts;
  Vectors golden("encodings.json");
  for (const auto& entry : golden.root().as_array()) {
    texts.push_back(entry.at("text").as_string());
  }
  const auto definition = train_bpe(texts, 1000, {"<|endoftext|>", "<|im_start|>", "<|im_end|>"});
  const TemporaryFolder folder;
  TokenizerFiles files;
  files.default_system = kQwen25SystemPrompt;
  write_tokenizer(folder.path(), definition, files);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
    CHECK(io::read_file(folder.path() + "/" + name) ==
          io::read_file(vector_path(std::string("tokenizer/small/") + name)));
  }
  const auto loaded = load_tokenizer(folder.path());
  const BpeTokenizer direct(definition);
  for (const auto& text : texts) {
    CHECK(direct.encode(text, SpecialText::kParse, TokensAround::kAdd) == loaded->encode(text));
  }
}

TEST_CASE("merges are learned from the most frequent pair down, ties in the order of ids") {
  // "aaab" 2x, "bb" 2x: (a,a) occurs 4 times, then (aa,a) and (a,b) 2 times each. Ties are decided
  // by the left id: single letters come before merged tokens.
  const std::vector<std::string> texts = {"aaab bb", "<|x|>aaab bb<|x|>"};
  const auto definition = train_bpe(texts, 1000, {"<|x|>"});
  using Merges = std::vector<std::pair<std::string, std::string>>;
  // The words are "aaab" and " bb". After (a,a): "aa a b"; of (a,b), (b,b), (Ġ,b), (aa,a), each
  // twice, (a,b) has the lowest ids; the space (id 220) comes before "aa" (id 256).
  const Merges expected = {{"a", "a"}, {"a", "b"}, {"b", "b"}, {"\u0120", "bb"}, {"aa", "ab"}};
  CAPTURE(joined(definition.merges));
  CHECK(definition.merges == expected);
  CHECK(definition.vocab.size() == 256 + expected.size());
  CHECK(definition.added[0].id == 261);

  const auto limited = train_bpe(texts, 259, {"<|x|>"});
  CHECK(limited.merges.size() == 2);
  CHECK(error_of([&] { train_bpe(texts, 256, {"<|x|>"}); }).find("too small") != std::string::npos);
}

}  // namespace qgrpo::test
