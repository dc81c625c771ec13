#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tokenizer/bpe_tokenizer.h"

namespace qgrpo::tokenizer {

// Learns a byte-level BPE vocabulary from texts: again and again the most frequent pair of
// neighbouring tokens inside a word becomes a token. Words are cut by Qwen2's pattern after NFC
// normalisation; special tokens in the texts are left out. Of equally frequent pairs the one with
// the lower left id, then the lower right id is taken, so the result depends on nothing but the
// texts.
//
// Ids: the 256 bytes (in the order of their byte-level characters), the merged tokens, the special
// tokens. At most `vocab_size` in all; fewer where no pair occurs twice any more.
// Throws Error where vocab_size has no room for the bytes and special tokens.
BpeDefinition train_bpe(std::span<const std::string> texts, int vocab_size,
                        const std::vector<std::string>& special_tokens);

struct TokenizerFiles {
  std::string eos_token = "<|im_end|>";
  std::string pad_token = "<|endoftext|>";
  // The chat template's system message for conversations without one; nothing: no system message.
  std::optional<std::string> default_system;
  int model_max_length = 32768;  // tokens
};

// Writes tokenizer.json and tokenizer_config.json (with a ChatML template) into an existing folder,
// in the layout that load_tokenizer(), Hugging Face's `tokenizers` and transformers read.
void write_tokenizer(const std::string& folder, const BpeDefinition& definition,
                     const TokenizerFiles& files = {});

}  // namespace qgrpo::tokenizer
