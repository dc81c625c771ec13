#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tokenizer/chat_template.h"
#include "tokenizer/jinja/value.h"
#include "tokenizer/tokenizer.h"

namespace qgrpo::tokenizer {

// bos_token, eos_token, pad_token, ... of a model by these names: tokenizer_config.json's, then
// special_tokens_map.json's, then what transformers' class of tokenizers has; or a GGUF file's.
jinja::Dict special_tokens(const std::string& model, const Tokenizer& tokenizer);

// When a completion ends: the ids that each of the field's programs stops at, together. First the
// tokenizer's own eos_token (what vLLM adds, TRL appends to texts and llama.cpp's converter
// writes); then `configured`, Config::eos_token_ids (what transformers stops at); then the end of
// the assistant's turn in the chat template (what llama.cpp finds by its name), which the files of
// base models do not mention. `chat`: the template that is used; null: none is known.
std::vector<std::int32_t> eos_ids(const std::string& model,
                                  std::span<const std::int32_t> configured,
                                  const Tokenizer& tokenizer, const ChatTemplate* chat);
// The same with the model's own tokenizer and template, where it has them.
std::vector<std::int32_t> eos_ids(const std::string& model,
                                  std::span<const std::int32_t> configured);

}  // namespace qgrpo::tokenizer
