#pragma once

#include <memory>
#include <string>

#include "tokenizer/tokenizer.h"

namespace qgrpo::tokenizer {

// Whether the folder has a tokenizer.model and a tokenizer.json that was made of one (Llama 2's and
// Mistral's do): then tokenizer.model is read, and of tokenizer.json what it adds.
bool is_converted_sentencepiece(const std::string& folder);

// Reads FOLDER/tokenizer.model with the SentencePiece library (part of load_tokenizer()).
//
// Text without special tokens has the ids that SentencePiece itself gives, but where tokenizer.json
// says otherwise of the space before a text (Metaspace's prepend_scheme). Control tokens ("</s>")
// and the added tokens of tokenizer_config.json are recognised in text, each stretch between them
// is encoded on its own. Begin- and end-of-text tokens are added only where tokenizer_config.json
// says add_bos_token or add_eos_token, else where tokenizer.json's post-processor adds them. decode() is SentencePiece's, but control tokens are spelled
// out unless special tokens are skipped.
std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& folder);

}  // namespace qgrpo::tokenizer
