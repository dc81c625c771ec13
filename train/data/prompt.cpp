#include "train/data/prompt.h"

#include <fmt/format.h>

#include "model/io/json.h"
#include "model/ops/error.h"

namespace qgrpo::train {

std::string format_completion(std::string_view reasoning, std::string_view answer) {
  return fmt::format("<reasoning>\n{}\n</reasoning>\n<answer>\n{}\n</answer>\n", reasoning, answer);
}

std::vector<tokenizer::Message> build_prompt(std::string_view question,
                                             const PromptOptions& options) {
  std::vector<tokenizer::Message> messages;
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

namespace {

bool lacks_system_prompt(const Example& example, const PromptOptions& options) {
  return options.system_prompt_given && !options.system_prompt.empty() &&
         example.messages.front().role != "system";
}

}  // namespace

std::vector<tokenizer::Message> example_prompt(const Example& example,
                                               const PromptOptions& options) {
  if (example.messages.empty()) return build_prompt(example.question, options);
  std::vector<tokenizer::Message> messages = example.messages;
  if (lacks_system_prompt(example, options)) {
    tokenizer::Message system;
    system.role = "system";
    system.content = options.system_prompt;
    messages.insert(messages.begin(), std::move(system));
  }
  return messages;
}

std::vector<std::int32_t> prompt_ids(const Example& example, const PromptOptions& options,
                                     const tokenizer::Tokenizer& tokenizer,
                                     const tokenizer::ChatTemplate& chat_template) {
  tokenizer::RenderOptions render = example.render;
  render.add_generation_prompt = true;
  try {
    return chat_template.tokenize(tokenizer, example_prompt(example, options), render);
  } catch (const Error& error) {
    fail("{}: {}", example.where, error.what());
  }
}

std::string prompt_json(const Example& example, const PromptOptions& options) {
  const auto as_json = [](const std::string& role, const std::string& content) {
    return fmt::format("{{\"role\":{},\"content\":{}}}", io::json_string(role),
                       io::json_string(content));
  };
  if (!example.messages.empty()) {
    if (!lacks_system_prompt(example, options)) return example.messages_json;
    return fmt::format("[{},{}", as_json("system", options.system_prompt),
                       example.messages_json.substr(1));
  }
  std::vector<std::string> parts;
  for (const tokenizer::Message& message : build_prompt(example.question, options))
    parts.push_back(as_json(message.role, message.content));
  return fmt::format("[{}]", fmt::join(parts, ","));
}

std::size_t truncate_prompt(std::vector<std::int32_t>& ids, std::size_t max_prompt_length) {
  if (max_prompt_length == 0 || ids.size() <= max_prompt_length) return 0;
  const std::size_t cut = ids.size() - max_prompt_length;
  ids.erase(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(cut));
  return cut;
}

}  // namespace qgrpo::train
