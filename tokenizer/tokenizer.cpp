#include "tokenizer/tokenizer.h"

#include <filesystem>

#include "model/io/gguf.h"
#include "model/ops/error.h"
#include "tokenizer/bpe_tokenizer.h"
#include "tokenizer/gguf_tokenizer.h"
#include "tokenizer/sentencepiece_tokenizer.h"

namespace qgrpo::tokenizer {

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const {
  StreamDecoder stream(*this, skip_special_tokens);
  std::string text;
  for (const std::int32_t id : ids) text += stream.push_known(id);
  return text + stream.flush();
}

std::string StreamDecoder::push(std::int32_t id) {
  return tokenizer_.id_to_token(id) ? push_known(id) : std::string();
}

std::string StreamDecoder::push_known(std::int32_t id) {
  if (skip_special_tokens_ && tokenizer_.is_special(id)) return {};
  tokenizer_.append_token_bytes(id, at_start_, pending_);
  std::string text;
  utf8::decode(pending_, text, tokenizer_.replacement(), false);
  return text;
}

std::string StreamDecoder::flush() {
  std::string text;
  utf8::decode(pending_, text, tokenizer_.replacement(), true);
  at_start_ = true;
  return text;
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (io::is_model_file(folder)) {
    return std::make_unique<BpeTokenizer>(read_gguf_tokenizer(io::GgufFile(folder)));
  }
  require(fs::is_directory(folder, error),
          "{} is not a folder: expected a model folder with tokenizer files", folder);
  const auto has = [&](const char* name) { return fs::exists(fs::path(folder) / name, error); };
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
