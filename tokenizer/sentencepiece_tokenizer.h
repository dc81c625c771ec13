#pragma once

#include <memory>
#include <string>

#include "tokenizer/tokenizer.h"

namespace qgrpo::tokenizer {

// Reads FOLDER/tokenizer.model with the SentencePiece library (part of load_tokenizer()).
//
// Text without special tokens has the ids that SentencePiece itself gives. Control tokens ("</s>")
// and the added tokens of tokenizer_config.json are recognised in text, each stretch between them
// is encoded on its own. Begin- and end-of-text tokens are added only where tokenizer_config.json
// says add_bos_token or add_eos_token. decode() is SentencePiece's, but control tokens are spelled
// out unless special tokens are skipped.
std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& folder);

}  // namespace qgrpo::tokenizer
