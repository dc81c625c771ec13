#pragma once

#include <cstdint>
#include <string>

#include "model/io/gguf.h"
#include "tokenizer/bpe_tokenizer.h"

// Byte-level BPE tokenizers in the metadata of GGUF files: tokenizer.ggml.model "gpt2", .pre (names
// the pattern that cuts words), .tokens, .token_type and .merges.
namespace qgrpo::tokenizer {

// The definition in the file. Control tokens are special, user-defined ones are not, unused ones
// ("[PAD151665]") are no tokens. Throws Error naming file and key on anything but "gpt2" with the
// pattern of Qwen2, Llama 3 or GPT-2.
BpeDefinition read_gguf_tokenizer(const io::GgufFile& file);
// Whether the file has a tokenizer at all.
bool has_gguf_tokenizer(const io::GgufFile& file);

// Adds the definition to a file's metadata, `vocab_size` tokens (as many as the embedding has
// rows): ids without a token become unused ones. Throws Error where a token's id is beyond them, or
// the pattern is one that GGUF has no name for.
void add_gguf_tokenizer(io::GgufHeader& header, const BpeDefinition& definition,
                        std::int64_t vocab_size);

}  // namespace qgrpo::tokenizer
