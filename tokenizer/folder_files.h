#pragma once

#include <cstdint>
#include <string>

namespace qgrpo::tokenizer {

// What a GGUF file's tokenizer needs of the model's configuration to become files.
struct TokenizerRole {
  std::int32_t eos_token_id = -1;  // -1: none
  std::int32_t pad_token_id = -1;
  std::int64_t model_max_length = 32768;  // tokens
};

// Puts into `folder` what a model folder has besides its configuration and weights: the tokenizer's
// files, the chat templates with chat_templates/, LICENSE and NOTICE, copied; of a GGUF file the
// tokenizer and the templates made from its metadata. What is not there is left out.
void copy_folder_files(const std::string& model, const std::string& folder,
                       const TokenizerRole& role);

}  // namespace qgrpo::tokenizer
