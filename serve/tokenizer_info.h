#pragma once

#include <string>

#include "tokenizer/tokenizer.h"

namespace qgrpo::serve {

// What /tokenizer_info tells of a model's folder, a JSON object: tokenizer_config.json, without the list of added
// tokens, and with what it may lack: the special tokens by their names, and the chat template.
std::string tokenizer_info(const std::string& model, const tokenizer::Tokenizer& tokenizer);

}  // namespace qgrpo::serve
