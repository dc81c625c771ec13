#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/io/json.h"
#include "tokenizer/jinja/template.h"
#include "tokenizer/tokenizer.h"

namespace qgrpo::tokenizer {

// One turn of a conversation. Roles: "system", "user", "assistant", "tool", or what else a template
// knows.
struct Message {
  std::string role;
  std::string content;
  // The whole message as a JSON object, where it has more than a role and a text: "tool_calls",
  // "reasoning_content", a content of several parts, "weight". Empty for all others.
  std::string json = {};
  // Whether some of that is said: "weight", "train" and "loss" are for trainers.
  bool says_more = false;
};

struct RenderOptions {
  bool add_generation_prompt = false;  // ends with what the assistant's answer begins with
  std::string tools = {};              // JSON schemas as one JSON array; empty: none
  std::string documents = {};          // a JSON array; empty: none
  std::string variables = {};          // more variables of the template, a JSON object; empty: none
};

// Turns a conversation into the text that the model was trained on. Contents are not escaped:
// "<|im_end|>" in a content is tokenised as the special token, as in Hugging Face.
class ChatTemplate {
 public:
  enum class Rules {
    kPlain,   // every message alike, whatever its role (Qwen2, the built-in demo)
    kQwen25,  // consecutive "tool" messages become one user turn of <tool_response> blocks
    kOther,   // whatever the Jinja template says
  };
  // The templates of a model's folder.
  struct Source {
    std::shared_ptr<const jinja::Template> standard;
    std::shared_ptr<const jinja::Template> tool_use;  // for conversations with tools; may be null
    jinja::Dict special_tokens = {};                  // bos_token, eos_token, ...
  };

  // This program's own ChatML,
  //   <|im_start|>ROLE\nCONTENT<|im_end|>\n     for each message, and
  //   <|im_start|>assistant\n                   for the model to go on from.
  // `default_system` is the system message of conversations that do not begin with their own.
  ChatTemplate(Rules rules, std::optional<std::string> default_system)
      : rules_(rules), default_system_(std::move(default_system)) {}
  // A Jinja template; rules and default system prompt say what is known of it.
  ChatTemplate(Source source, Rules rules, std::optional<std::string> default_system)
      : source_(std::make_shared<const Source>(std::move(source))),
        rules_(rules),
        default_system_(std::move(default_system)) {}

  // Variables for every rendering, a JSON object: what transformers calls chat_template_kwargs.
  // Those of RenderOptions come on top. Throws Error where it is no JSON object.
  void set_variables(const std::string& json);

  // As transformers' apply_chat_template renders it, from the same variables: messages (members
  // that are null left out), tools, documents, add_generation_prompt, the special tokens by their
  // names. Throws Error where there is no message, where the template fails or refuses the
  // conversation, with kQwen25 on a role that the template would silently drop, and, with this
  // program's own ChatML, on tools and on messages that are not a role and a text.
  jinja::Rendering render(std::span<const Message> messages, const RenderOptions& options) const;
  std::string render(std::span<const Message> messages, bool add_generation_prompt) const;

  // The ids of a conversation: apply_chat_template(tokenize=True). The tokens around a raw text are
  // no part of them.
  std::vector<std::int32_t> tokenize(const Tokenizer& tokenizer, std::span<const Message> messages,
                                     const RenderOptions& options) const {
    return tokenizer.encode_rendered(render(messages, options).text);
  }

  Rules rules() const { return rules_; }
  // The default system prompt, where it is known.
  const std::optional<std::string>& default_system() const { return default_system_; }

 private:
  std::string render_chatml(std::span<const Message> messages, bool add_generation_prompt) const;

  std::shared_ptr<const Source> source_;  // null: this program's own ChatML
  Rules rules_;
  std::optional<std::string> default_system_;
  std::string variables_;
};

// Recognises the text of a chat template (Jinja): Qwen2.5's with any default system prompt
// (Instruct, Coder, Math and the base models differ only there), Qwen2's, and this program's own.
// White space between tags does not matter. Nothing for any other template.
std::optional<ChatTemplate> recognize_chat_template(const std::string& jinja);

// The chat template of a model folder: chat_template.jinja (and chat_templates/tool_use.jinja),
// else "chat_template" of tokenizer_config.json (a text, or a list of named ones: "default" and
// "tool_use"), else chat_template.json; or a GGUF file's.
//
// `name` is the user's choice: empty; a file with a template (Jinja, or JSON with the key
// "chat_template"); or "chatml" for folders whose own template is missing or not ChatML. Then it is
// ChatML: with Qwen2.5's rules and default system prompt where the tokenizer has Qwen's own
// vocabulary, and without a default system prompt for all other models. `variables`: see
// ChatTemplate::set_variables.
// Throws Error with the way out where the template is missing or not understood.
ChatTemplate load_chat_template(const std::string& folder, const Tokenizer& tokenizer,
                                const std::string& name = "", const std::string& variables = "");

// What is wrong with the user's choice of a template ("chatml" or a file) and of variables, before
// a model is loaded. Throws Error that begins with --chat-template or --chat-template-kwargs.
void check_chat_template_options(const std::string& name, const std::string& variables);

// Reads [{"role": .., "content": .., ..}, ..]. Throws Error on a message without a role, and on one
// that has neither a content (a text or a list of parts) nor tool_calls.
std::vector<Message> read_messages(const io::JsonValue& messages);

// What one line of data says of its own rendering, as TRL reads it: the keys "tools" (JSON schemas,
// or their JSON as a text) and "chat_template_kwargs". Throws Error that names the line.
RenderOptions read_template_variables(const io::JsonValue& line);

// The options of one line of input, of its keys "tools", "documents", "chat_template_kwargs" and
// "add_generation_prompt" (`standard` where that is absent).
RenderOptions read_render_options(const io::JsonValue& line, bool standard);

// This program's own ChatML template as Jinja text, for folders that it writes.
std::string chatml_jinja(const std::optional<std::string>& default_system);

// Qwen2.5-Instruct's default system prompt.
extern const char* const kQwen25SystemPrompt;

}  // namespace qgrpo::tokenizer
