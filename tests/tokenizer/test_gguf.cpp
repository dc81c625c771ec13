#include <doctest/doctest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tokenizer/gguf_tokenizer.h"
#include "vectors.h"

using namespace qgrpo;
using namespace qgrpo::test;

namespace {

struct GgufPath {
  std::string path =
      (std::filesystem::temp_directory_path() / fmt::format("qgrpo-tokenizer-{}.gguf", getpid()))
          .string();
  ~GgufPath() { std::filesystem::remove(path); }
};

// As a file's metadata says it again.
BpeDefinition there_and_back(const BpeDefinition& definition, std::int64_t vocab_size) {
  const GgufPath file;
  io::GgufHeader header;
  add_gguf_tokenizer(header, definition, vocab_size);
  if (!definition.prefix.empty()) {
    header.add("tokenizer.ggml.bos_token_id",
               static_cast<std::uint32_t>(definition.prefix.front()));
  }
  std::ofstream(file.path, std::ios::binary) << header.finish();
  return read_gguf_tokenizer(io::GgufFile(file.path));
}

}  // namespace

TEST_CASE("gguf tokenizer: the patterns that have a name come back, with what belongs to them") {
  const auto small = read_tokenizer_json(vector_path("tokenizer/small"));
  const std::string text = "It's 1234567 o'clock, cafe\u0301!\n\n  Done.";
  struct Case {
    const char* pattern;
    bool nfc;
    bool ignore_merges;
  };
  for (const Case& c : {Case{kQwen2Pattern, true, false}, Case{kLlama3Pattern, false, true},
                        Case{kGpt2Pattern, false, false}}) {
    CAPTURE(std::string(c.pattern));
    BpeDefinition definition = small;
    definition.pattern = c.pattern;
    definition.nfc = c.nfc;
    definition.ignore_merges = c.ignore_merges;
    definition.prefix = {definition.added.front().id};
    const BpeTokenizer before(definition);
    const BpeDefinition read = there_and_back(definition, before.vocab_size());
    CHECK(read.pattern == c.pattern);
    CHECK(read.nfc == c.nfc);
    CHECK(read.ignore_merges == c.ignore_merges);
    CHECK(read.prefix == definition.prefix);
    const BpeTokenizer after(read);
    const auto ids = [&](const Tokenizer& tokenizer) { return tokenizer.encode(text); };
    CHECK(ids(after) == ids(before));
    definition.ignore_merges = !c.ignore_merges;
    CHECK(error_of([&] { there_and_back(definition, before.vocab_size()); }) != "");
  }
}

TEST_CASE("Llama 3's pattern cuts numbers into groups of three digits") {
  const PreTokenizer pretokenizer(kLlama3Pattern, "the pattern");
  PreTokenizer::Match match(pretokenizer);
  const std::string text = "12345678 apples";
  std::vector<std::string> words;
  pretokenizer.split(text, match, [&](std::size_t begin, std::size_t end) {
    words.push_back(text.substr(begin, end - begin));
  });
  CHECK(words == std::vector<std::string>{"123", "456", "78", " apples"});
}
