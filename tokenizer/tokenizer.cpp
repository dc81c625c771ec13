#include "tokenizer/tokenizer.h"

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

}  // namespace qgrpo::tokenizer
