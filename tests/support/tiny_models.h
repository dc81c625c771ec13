#pragma once

#include <string>

// The tiny random models of tests/vectors, at least one a family, with what transformers and peft
// computed for them. What holds for one must hold for all.
namespace qgrpo::test {

struct TinyModel {
  const char* folder;  // with golden/
  const char* lora;    // a folder of the same with adapter/; null where there is none

  std::string golden(const char* file) const { return std::string(folder) + "/golden/" + file; }
  std::string of_lora(const char* file) const { return std::string(lora) + "/" + file; }
};

inline constexpr TinyModel kTinyModels[] = {
    {"tiny_qwen2", "lora"},
    {"tiny_qwen2_untied", nullptr},
    {"tiny_qwen3", "tiny_qwen3/lora"},
    {"tiny_llama3", "tiny_llama3/lora"},
    {"tiny_mistral_yarn", nullptr},
};

}  // namespace qgrpo::test
