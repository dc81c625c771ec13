#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/io/utf8.h"

namespace qgrpo::tokenizer {

// How special tokens that are spelled out in text ("<|im_end|>") are read.
enum class SpecialText {
  kParse,  // as the token: Hugging Face's default, needed for rendered chat templates
  kPlain,  // as ordinary characters (added tokens that are not special are still recognised)
};

// The tokens around a text, begin-of-text and end-of-text: Hugging Face's add_special_tokens.
enum class TokensAround {
  kAdd,  // to raw text, once: Hugging Face's default
  kNone  // the text has its own
};

// Text <-> token ids. All functions are const and may be called by several threads at a time.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // The token ids of UTF-8 text; the same as Hugging Face's `tokenizers` gives. `around`: what the
  // folder's post-processor puts around a text (Llama's and DeepSeek's begin-of-text; Qwen's files
  // have none). Throws Error where the text is not well-formed UTF-8.
  virtual std::vector<std::int32_t> encode(std::string_view text,
                                           SpecialText special = SpecialText::kParse,
                                           TokensAround around = TokensAround::kAdd) const = 0;

  // The ids of text that a chat template has rendered, whole: it has its own begin-of-text token
  // where there is to be one. transformers' apply_chat_template(tokenize=True).
  std::vector<std::int32_t> encode_rendered(std::string_view text) const {
    return encode(text, SpecialText::kParse, TokensAround::kNone);
  }

  // The text of the ids: the tokens' bytes are joined, and what is not UTF-8 then becomes U+FFFD,
  // as Python's bytes.decode("utf-8", "replace") does it. Throws Error on an id that is no token.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special_tokens = false) const;

  // The highest id + 1. Ids in between may be unused, and a model's embedding may have more rows.
  virtual std::int32_t vocab_size() const = 0;
  // The id of a token as it is spelled in the vocabulary ("<|im_end|>", "Ġthe", "▁the").
  virtual std::optional<std::int32_t> token_to_id(std::string_view token) const = 0;
  // The spelling of an id in the vocabulary; nothing where no token has the id.
  virtual std::optional<std::string> id_to_token(std::int32_t id) const = 0;
  // Special tokens are left out by skip_special_tokens.
  virtual bool is_special(std::int32_t id) const = 0;

  // Appends the bytes that the token stands for. `at_start` belongs to the tokenizer (SentencePiece
  // drops the first word's space): true before the first token, then handed from call to call.
  // Throws Error on an id that is no token.
  virtual void append_token_bytes(std::int32_t id, bool& at_start, std::string& out) const = 0;
  // What replaces bytes that are not UTF-8.
  virtual utf8::Replacement replacement() const { return utf8::Replacement::kMaximalPart; }
};

// Text from tokens one at a time, never cut inside a UTF-8 character. All returned pieces together
// are decode() of all ids; an id that is no token gives no text (a model's embedding can have more
// rows than the tokenizer has tokens, and a sampled row must not end a run).
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens = false)
      : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens) {}

  // The text that this token completes; empty while a character is still incomplete.
  std::string push(std::int32_t id);
  // The end: what is incomplete becomes U+FFFD. The decoder can be used again afterwards.
  std::string flush();

 private:
  friend class Tokenizer;
  std::string push_known(std::int32_t id);

  const Tokenizer& tokenizer_;
  bool skip_special_tokens_;
  bool at_start_ = true;
  std::string pending_;  // bytes not yet given out
};

}  // namespace qgrpo::tokenizer
