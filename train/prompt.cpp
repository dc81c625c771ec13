#include "train/prompt.h"

#include <fmt/format.h>

namespace qgrpo::train {

std::string format_completion(std::string_view reasoning, std::string_view answer) {
  return fmt::format("<reasoning>\n{}\n</reasoning>\n<answer>\n{}\n</answer>\n", reasoning, answer);
}

std::vector<Message> build_prompt(std::string_view question, const PromptOptions& options) {
  std::vector<Message> messages;
  if (!options.system_prompt.empty()) messages.push_back({"system", options.system_prompt});
  if (options.one_shot) {
    messages.push_back({"user", "What is the largest single-digit prime number?"});
    messages.push_back(
        {"assistant",
         format_completion("9 is divisble by 3 and 8 is divisible by 2, but 7 is prime.", "7")});
  }
  messages.push_back({"user", std::string(question)});
  return messages;
}

std::size_t truncate_prompt(std::vector<std::int32_t>& ids, std::size_t max_prompt_length) {
  if (max_prompt_length == 0 || ids.size() <= max_prompt_length) return 0;
  const std::size_t cut = ids.size() - max_prompt_length;
  ids.erase(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(cut));
  return cut;
}

}  // namespace qgrpo::train
