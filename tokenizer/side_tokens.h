#pragma once

#include <string>

#include "model/io/json.h"
#include "tokenizer/bpe_tokenizer.h"

namespace qgrpo::tokenizer {

// An added token as JSON has it: "content", "special", "normalized" (where absent: not special),
// "lstrip", "rstrip", "single_word".
AddedToken read_added_token(const io::JsonValue& entry, std::int32_t id);

// Adds to `definition` what the files beside tokenizer.json, or beside vocab.json and merges.txt,
// say of added tokens, as transformers 5 does:
// 1. "added_tokens_decoder" of tokenizer_config.json; where there is none, added_tokens.json;
// 2. the special tokens by name ("eos_token", "pad_token", any other "..._token") and
//    "additional_special_tokens" or "extra_special_tokens" of tokenizer_config.json, and without a
//    decoder those of special_tokens_map.json, which go before.
// A token that is there keeps its id and takes the flags of 1; those of 2 become special with
// Qwen2Tokenizer. A new one gets the vocabulary's id where it has one, else the next free id in the
// order of the files, whatever id they say.
// Returns whether any file says something of tokens. Throws Error where a file gives a token the id
// of another.
bool add_side_tokens(const std::string& folder, BpeDefinition& definition);

}  // namespace qgrpo::tokenizer
