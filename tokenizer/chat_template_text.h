#pragma once

#include <optional>
#include <string>

namespace qgrpo::tokenizer {

// The texts (Jinja) of a template, and the file that they are in.
struct ChatTemplateText {
  std::string where;
  std::string standard;
  std::optional<std::string> tool_use = {};  // for conversations with tools
};

// Those of a model folder: chat_template.jinja (and chat_templates/tool_use.jinja), else
// "chat_template" of tokenizer_config.json (a text, or a list of named ones: "default" and
// "tool_use"), else chat_template.json; or a GGUF file's. Nothing where there are none.
std::optional<ChatTemplateText> read_chat_template(const std::string& model);

}  // namespace qgrpo::tokenizer
