#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "model/io/gguf.h"
#include "model/io/json.h"

// SentencePiece's BPE vocabularies in other files than its own: the metadata of GGUF files, and tokenizer.json as
// transformers converts it (byte_fallback). The library reads them as a tokenizer.model that is made here.
namespace qgrpo::tokenizer {

struct SentencePieceVocab {
  // SentencePiece's own numbers, and llama.cpp's.
  enum class Type { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
  struct Piece {
    std::string text;
    float score =
        0.0f;  // of two neighbours the pair is merged first that makes the piece of higher score
    Type type = Type::normal;
  };

  std::string where;          // the file, for messages
  std::vector<Piece> pieces;  // by id
  std::vector<std::pair<std::int32_t, Piece>>
      added;             // behind the pieces, by id: no part of the model
  std::string bos, eos;  // their pieces; empty: there is none
  bool add_bos = false;
  bool add_eos = false;
  bool prefix_space = true;  // a space before each stretch of text
};

// tokenizer.ggml.model "llama": .tokens, .scores, .token_type, .bos_token_id, .eos_token_id, .add_bos_token (true, where
// it is absent, as in llama.cpp), .add_eos_token, .add_space_prefix. Throws Error naming file and key.
SentencePieceVocab read_gguf_sentencepiece(const io::GgufFile& file);
bool has_gguf_sentencepiece(const io::GgufFile& file);
// The same keys, for `vocab_size` ids: those without a piece become unused ones.
void add_gguf_sentencepiece(io::GgufHeader& header, const SentencePieceVocab& vocab,
                            std::int64_t vocab_size);

// The vocabulary of a tokenizer.json whose model is BPE with byte_fallback: the rank of the merge that makes a piece is
// its score. The special ones of the tokens that are added are control pieces, the others user-defined ones; those
// behind the vocabulary are `added`. Throws Error that names the file and what is not supported: normalizers
// other than Prepend and Replace with the space's sign, ids with a gap.
SentencePieceVocab read_json_sentencepiece(const io::JsonValue& root);

// A ModelProto as tokenizer.model holds it (google/sentencepiece, sentencepiece_model.proto): BPE with byte fallback,
// text as it is.
std::string sentencepiece_proto(const SentencePieceVocab& vocab);

}  // namespace qgrpo::tokenizer
