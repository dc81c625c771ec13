#pragma once

#include <optional>
#include <string>
#include <vector>

#include "train/data/prompt.h"

// The prompt that a model was trained with travels with it: a small file of this program's own in the adapter's
// folder and in the model's, which others ignore.
namespace qgrpo::train {

inline constexpr const char* kTaughtPromptFile = "qgrpo_prompt.json";

// {"system_prompt": "..", "one_shot": false}. Throws Error where it cannot be written.
void write_taught_prompt(const std::string& folder, const PromptOptions& prompt);

struct TaughtPrompt {
  PromptOptions prompt;
  std::string file;
  std::string text() const;  // what is told once: "system prompt: none, as .. says"
};

// Of the first of the folders that has the file; those that are no folders have none. Throws Error where it is
// damaged.
std::optional<TaughtPrompt> read_taught_prompt(const std::vector<std::string>& folders);

}  // namespace qgrpo::train
