#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "train/options/option_set.h"

namespace qgrpo::train {

// A new adapter (`adapter` brings its own). peft's LoraConfig, TRL's ModelConfig.
struct LoraOptions {
  std::int64_t lora_r = 64;
  double lora_alpha = 64.0;
  bool use_rslora = false;
  std::vector<std::string> lora_target_modules = {"all-linear"};
};

// `made`: whether the run makes its adapter; one that is given is what it is, whatever these say.
void describe(LoraOptions& options, OptionSet& set, std::function<bool()> made);

}  // namespace qgrpo::train
