#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "train/options/option_set.h"

namespace qgrpo::train {

// What a question becomes before it is sampled from.
struct PromptingOptions {
  std::optional<std::string> system_prompt;  // absent: the notebook's
  bool one_shot = false;
  std::int64_t max_prompt_length = 256;  // cut on the left
};

void describe(PromptingOptions& options, OptionSet& set);

}  // namespace qgrpo::train
