#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "train/options/option_set.h"

namespace qgrpo::train {

// The adapter that is trained; one that is given brings its own shape. peft's LoraConfig, TRL's ModelConfig.
struct LoraOptions {
  std::int64_t lora_r = 64;
  double lora_alpha = 64.0;
  bool use_rslora = false;
  std::vector<std::string> lora_target_modules = {"all-linear"};
};

// `trained`: whether the run trains an adapter.
void describe(LoraOptions& options, OptionSet& set, std::function<bool()> trained);

}  // namespace qgrpo::train
