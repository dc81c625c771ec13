#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/chat_template.h"
#include "train/data/dataset.h"

namespace qgrpo::train {

// The GSM8K notebook's system prompt: the format that the rewards ask for.
inline constexpr std::string_view kDefaultSystemPrompt =
    "\nRespond in the following "
    "format:\n<reasoning>\n...\n</reasoning>\n<answer>\n...\n</answer>\n";

// A completion in that format:
// "<reasoning>\n{reasoning}\n</reasoning>\n<answer>\n{answer}\n</answer>\n".
std::string format_completion(std::string_view reasoning, std::string_view answer);

struct PromptOptions {
  std::string system_prompt =
      std::string(kDefaultSystemPrompt);  // empty: none, the template's default
  // The system prompt is the user's own choice: conversations that have none get it too.
  bool system_prompt_given = false;
  // One solved question before the real one (the notebook's, with its spelling).
  bool one_shot = false;
};

// system, [user and assistant of the example,] user.
std::vector<tokenizer::Message> build_prompt(std::string_view question,
                                             const PromptOptions& options);

// An example's prompt: its conversation as it is (but for a system prompt that was given and is not
// there), or build_prompt() of its question.
std::vector<tokenizer::Message> example_prompt(const Example& example,
                                               const PromptOptions& options);
// The ids of an example's prompt, ready for the assistant to answer: rendered with the variables of
// its line. Throws Error that names the line.
std::vector<std::int32_t> prompt_ids(const Example& example, const PromptOptions& options,
                                     const tokenizer::Tokenizer& tokenizer,
                                     const tokenizer::ChatTemplate& chat_template);
// The same as JSON, for rewards: [{"role": .., "content": ..}, ..]; a conversation as its file has
// it.
std::string prompt_json(const Example& example, const PromptOptions& options);

// Keeps the last `max_prompt_length` ids, as TRL did (prompt_ids[:, -max_prompt_length:]); 0 means
// no limit. Returns how many ids were cut off.
std::size_t truncate_prompt(std::vector<std::int32_t>& ids, std::size_t max_prompt_length);

}  // namespace qgrpo::train
