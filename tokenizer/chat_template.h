#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/io/json.h"
#include "tokenizer/tokenizer.h"

namespace qgrpo {

// One turn of a conversation. Roles: "system", "user", "assistant", "tool".
struct Message {
  std::string role;
  std::string content;
};

// Turns a conversation into the text that the model was trained on: ChatML,
//   <|im_start|>ROLE\nCONTENT<|im_end|>\n     for each message, and
//   <|im_start|>assistant\n                   for the model to go on from.
// Contents are not escaped: "<|im_end|>" in a content is tokenised as the special token, as in
// Hugging Face.
class ChatTemplate {
 public:
  enum class Rules {
    kPlain,   // every message alike, whatever its role (Qwen2, the built-in demo)
    kQwen25,  // consecutive "tool" messages become one user turn of <tool_response> blocks
  };

  // `default_system` is the system message of conversations that do not begin with their own.
  ChatTemplate(Rules rules, std::optional<std::string> default_system)
      : rules_(rules), default_system_(std::move(default_system)) {}

  // Throws Error where there is no message, or, with kQwen25, on a role that it does not know
  // (the published template would silently drop the message).
  std::string render(std::span<const Message> messages, bool add_generation_prompt) const;

  const std::optional<std::string>& default_system() const { return default_system_; }

 private:
  Rules rules_;
  std::optional<std::string> default_system_;
};

// Recognises the text of a chat template (Jinja): Qwen2.5's with any default system prompt
// (Instruct, Coder, Math and the base models differ only there), Qwen2's, and this program's own.
// White space between tags does not matter. Nothing for any other template.
std::optional<ChatTemplate> recognize_chat_template(const std::string& jinja);

// The template of a model folder, from chat_template.jinja or tokenizer_config.json.
//
// `name` is the user's choice: empty, or "chatml" for folders whose own template is missing or
// unknown. Then it is ChatML: with Qwen2.5's rules and default system prompt where the tokenizer
// has Qwen's own vocabulary, and without a default system prompt for all other models.
// Throws Error with the way out where the template is missing or unknown and `name` is empty.
ChatTemplate load_chat_template(const std::string& folder, const Tokenizer& tokenizer,
                                const std::string& name = "");

// Reads [{"role": .., "content": ..}, ..]. Throws Error on what would be lost in rendering
// (contents that are not strings, tool_calls).
std::vector<Message> read_messages(const io::JsonValue& messages);

// This program's own ChatML template as Jinja text, for folders that it writes.
std::string chatml_jinja(const std::optional<std::string>& default_system);

// Qwen2.5-Instruct's default system prompt.
extern const char* const kQwen25SystemPrompt;

}  // namespace qgrpo
