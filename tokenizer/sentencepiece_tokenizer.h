#pragma once

#include <memory>
#include <string>

#include "tokenizer/sentencepiece_vocab.h"
#include "tokenizer/tokenizer.h"

namespace qgrpo::tokenizer {

// Whether the folder has a tokenizer.json that was made of a tokenizer.model (Llama 2's and Mistral's are): BPE with
// byte_fallback, or Unigram with the tokenizer.model beside it. Where there is a tokenizer.model, that is read, and of
// tokenizer.json what it adds; else the vocabulary is tokenizer.json's (tokenizer/sentencepiece_vocab.h).
bool is_converted_sentencepiece(const std::string& folder);

// Reads FOLDER/tokenizer.model (or what is made of tokenizer.json) with the SentencePiece library (part of load_tokenizer()).
//
// Text without special tokens has the ids that SentencePiece itself gives, but where tokenizer.json
// says otherwise of the space before a text (Metaspace's prepend_scheme). Control tokens ("</s>")
// and the added tokens of tokenizer_config.json are recognised in text, each stretch between them
// is encoded on its own. Begin- and end-of-text tokens are added only where tokenizer_config.json
// says add_bos_token or add_eos_token, else where tokenizer.json's post-processor adds them. decode() is SentencePiece's, but control tokens are spelled
// out unless special tokens are skipped.
std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& folder);
// The same of a GGUF file's metadata (has_gguf_sentencepiece()).
std::unique_ptr<Tokenizer> load_gguf_sentencepiece(const io::GgufFile& file);

// The vocabulary of a folder that load_sentencepiece() reads, for other formats. Throws Error where it is no BPE model
// with byte fallback that takes text as it is.
SentencePieceVocab sentencepiece_vocab(const std::string& folder);

}  // namespace qgrpo::tokenizer
