// A data set's file; the first byte says who reads it.
#include "train/data/dataset.h"

#include "fuzz/target.h"
#include "tokenizer/bpe_tokenizer.h"
#include "tokenizer/byte_level.h"
#include "train/data/prompt.h"
#include "train/data/replay.h"
#include "train/sft/data.h"

using namespace qgrpo;

namespace {

// One token a byte.
const tokenizer::Tokenizer& bytes_tokenizer() {
  static const tokenizer::BpeTokenizer tokenizer = [] {
    tokenizer::BpeDefinition definition;
    definition.where = "bytes";
    for (int byte = 0; byte < 256; ++byte) {
      const char c = static_cast<char>(byte);
      definition.vocab.emplace_back(tokenizer::to_byte_level({&c, 1}), byte);
    }
    return tokenizer::BpeTokenizer(definition);
  }();
  return tokenizer;
}

void read_sft(const std::string& path, bool skip_bad) {
  static const tokenizer::ChatTemplate chat(tokenizer::ChatTemplate::Rules::kPlain, std::nullopt);
  train::SftTextOptions options;
  options.max_length = 256;
  options.skip_bad_examples = skip_bad;
  options.chat_template = []() -> const tokenizer::ChatTemplate& { return chat; };
  for (const auto& example : train::read_sft_data({&path, 1}, bytes_tokenizer(), options).examples)
    fuzz::check(example.length() <= 256, "an example is too long");
}

}  // namespace

QGRPO_FUZZ_TARGET(dataset) {
  static fuzz::MemoryFile memory;
  if (input.empty()) return;
  const int who = input[0] & 15;
  memory.set(input.substr(1));
  const std::string path = memory.path();
  if (who == 6 || who == 7) return read_sft(path, who == 7);
  if (who == 8) {
    for (const train::Group& group : train::read_replay(path, 1000, {8})) {
      for (const std::int32_t id : group.prompt_ids)
        fuzz::check(id >= 0 && id < 1000, "an id is outside of the vocabulary");
    }
    return;
  }
  train::DatasetOptions options;
  options.answer_format = static_cast<train::AnswerFormat>(who % 3);
  options.answer_required = who >= 3;
  if (who >= 9) options.prompt_column = "a.b";
  const auto examples = train::read_dataset({&path, 1}, options);
  static const tokenizer::ChatTemplate chat(tokenizer::ChatTemplate::Rules::kPlain, std::nullopt);
  for (const train::Example& example : examples) {
    train::prompt_json(example, {});
    train::prompt_ids(example, {}, bytes_tokenizer(), chat);
  }
}
