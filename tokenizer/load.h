#pragma once

#include <memory>
#include <string>

#include "tokenizer/tokenizer.h"

namespace qgrpo::tokenizer {

// Whether there are tokenizer files in the folder, or a tokenizer in the GGUF file.
bool has_tokenizer(const std::string& folder);

// Reads the tokenizer of a Hugging Face folder: tokenizer.json, else vocab.json + merges.txt (with
// the added tokens of tokenizer_config.json), else SentencePiece's tokenizer.model, which goes first where
// tokenizer.json was made of it; or that of a
// GGUF file's metadata. Throws Error naming what is missing, damaged or not supported.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& folder);

}  // namespace qgrpo::tokenizer
