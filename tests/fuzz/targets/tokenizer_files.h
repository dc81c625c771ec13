#pragma once

#include <string>
#include <string_view>

#include "fuzz/target.h"
#include "tokenizer/tokenizer.h"

namespace qgrpo::fuzz {

// What holds of every tokenizer: ids of a text are tokens, and decode.
inline std::string check_encoding(const tokenizer::Tokenizer& tokenizer, std::string_view text) {
  const auto ids =
      tokenizer.encode(text, tokenizer::SpecialText::kParse, tokenizer::TokensAround::kNone);
  tokenizer::StreamDecoder stream(tokenizer);
  std::string streamed;
  for (const std::int32_t id : ids) {
    check(id >= 0 && id < tokenizer.vocab_size(), "an id is outside of the vocabulary");
    check(tokenizer.id_to_token(id).has_value(), "an id is no token");
    streamed += stream.push(id);
  }
  streamed += stream.flush();
  const std::string decoded = tokenizer.decode(ids);
  check(decoded == streamed, "decoding in pieces gives another text");
  tokenizer.decode(tokenizer.encode(text), true);
  return decoded;
}

}  // namespace qgrpo::fuzz
