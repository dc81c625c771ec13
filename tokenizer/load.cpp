#include "tokenizer/load.h"

#include <filesystem>

#include "model/io/gguf.h"
#include "model/ops/error.h"
#include "tokenizer/bpe_tokenizer.h"
#include "tokenizer/gguf_tokenizer.h"
#include "tokenizer/sentencepiece_tokenizer.h"

namespace qgrpo::tokenizer {

bool has_tokenizer(const std::string& folder) {
  if (io::is_model_file(folder)) return has_gguf_tokenizer(io::GgufFile(folder));
  std::error_code error;
  for (const char* name : {"tokenizer.json", "vocab.json", "tokenizer.model"}) {
    if (std::filesystem::exists(std::filesystem::path(folder) / name, error)) return true;
  }
  return false;
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (io::is_model_file(folder)) {
    const io::GgufFile file(folder);
    if (has_gguf_sentencepiece(file)) return load_gguf_sentencepiece(file);
    return std::make_unique<BpeTokenizer>(read_gguf_tokenizer(file));
  }
  require(fs::is_directory(folder, error),
          "{} is not a folder: expected a model folder with tokenizer files", folder);
  const auto has = [&](const char* name) { return fs::exists(fs::path(folder) / name, error); };
  if (is_converted_sentencepiece(folder)) return load_sentencepiece(folder);
  if (has("tokenizer.json")) return std::make_unique<BpeTokenizer>(read_tokenizer_json(folder));
  if (has("vocab.json") && has("merges.txt")) {
    return std::make_unique<BpeTokenizer>(read_vocab_and_merges(folder));
  }
  if (has("tokenizer.model")) return load_sentencepiece(folder);
  if (has("vocab.json")) fail("{} has vocab.json but no merges.txt beside it", folder);
  if (has("merges.txt")) fail("{} has merges.txt but no vocab.json beside it", folder);
  fail(
      "{} has no tokenizer: expected tokenizer.json, or vocab.json and merges.txt, or "
      "tokenizer.model",
      folder);
}

}  // namespace qgrpo::tokenizer
