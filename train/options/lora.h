#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace qgrpo::train {

// A new adapter (`adapter` brings its own). peft's LoraConfig, TRL's ModelConfig.
struct LoraOptions {
  std::int64_t lora_r = 64;
  double lora_alpha = 64.0;
  bool use_rslora = false;
  std::vector<std::string> lora_target_modules = {"all-linear"};
};

}  // namespace qgrpo::train
