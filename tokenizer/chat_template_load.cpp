#include <filesystem>

#include "model/io/file.h"
#include "model/io/gguf.h"
#include "model/ops/error.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/chat_template_text.h"
#include "tokenizer/special_tokens.h"

// Finds a model's chat template.
namespace qgrpo::tokenizer {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWayOut =
    "pass --chat-template FILE, or --chat-template chatml to use ChatML for messages, or give raw "
    "text";

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

// A pipe, device or folder of a file's name is there too: reading it says what it is.
bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// "chat_template" of a JSON file: a text, [{"name": .., "template": ..}, ..] or {name: text}.
std::optional<ChatTemplateText> from_json_file(const std::string& path) {
  io::JsonDocument document;
  const auto value = document.parse_file(path).find_value("chat_template");
  if (!value) return std::nullopt;
  ChatTemplateText out{path, ""};
  if (value->is_string()) {
    out.standard = value->as_string();
    return out;
  }
  std::vector<std::pair<std::string, std::string>> named;
  if (value->is_object()) {
    for (const auto& [name, text] : value->as_object()) named.emplace_back(name, text.as_string());
  } else {
    for (const auto& entry : value->as_array()) {
      named.emplace_back(entry.at("name").as_string(), entry.at("template").as_string());
    }
  }
  bool found = false;
  for (auto& [name, text] : named) {
    if (name == "default") {
      out.standard = std::move(text);
      found = true;
    } else if (name == "tool_use") {
      out.tool_use = std::move(text);
    }
  }
  require(found, "{}: \"chat_template\" has {} templates, but none named \"default\"", path,
          named.size());
  return out;
}

// llama.cpp's keys.
std::optional<ChatTemplateText> from_gguf(const std::string& path) {
  const io::GgufFile file(path);
  const io::GgufValue* standard = file.find("tokenizer.chat_template");
  if (standard == nullptr) return std::nullopt;
  ChatTemplateText out{path, std::string(standard->as_string())};
  if (const io::GgufValue* tools = file.find("tokenizer.chat_template.tool_use")) {
    out.tool_use = std::string(tools->as_string());
  }
  return out;
}

ChatTemplateText from_file(const std::string& path) {
  if (!path.ends_with(".json")) return {path, io::read_file(path)};
  auto found = from_json_file(path);
  require(found.has_value(), "{}: expected the key \"chat_template\"", path);
  return *found;
}

ChatTemplate make_template(const ChatTemplateText& text, const fs::path& folder,
                           const Tokenizer& tokenizer) {
  ChatTemplate::Source source;
  source.special_tokens = special_tokens(folder, tokenizer);
  try {
    source.standard = std::make_shared<const jinja::Template>(
        text.standard, fmt::format("{}: chat template", text.where));
    if (text.tool_use) {
      source.tool_use = std::make_shared<const jinja::Template>(
          *text.tool_use, fmt::format("{}: chat template \"tool_use\"", text.where));
    }
  } catch (const Error& error) {
    fail("{}: {}", error.what(), kWayOut);
  }
  const auto known = recognize_chat_template(text.standard);
  return {std::move(source), known ? known->rules() : ChatTemplate::Rules::kOther,
          known ? known->default_system() : std::nullopt};
}

bool has_qwen_vocabulary(const Tokenizer& tokenizer) {
  return tokenizer.token_to_id("<|endoftext|>") == 151643 &&
         tokenizer.token_to_id("<|im_start|>") == 151644 &&
         tokenizer.token_to_id("<|im_end|>") == 151645;
}

ChatTemplate choose(const std::string& folder, const Tokenizer& tokenizer,
                    const std::string& name) {
  if (name.empty()) {
    const auto found = read_chat_template(folder);
    if (!found) fail("{} has no chat template: {}", folder, kWayOut);
    return make_template(*found, folder, tokenizer);
  }
  check_chat_template_options(name, "");
  if (name != "chatml") return make_template(from_file(name), folder, tokenizer);
  if (const auto found = read_chat_template(folder)) {
    if (recognize_chat_template(found->standard)) return make_template(*found, folder, tokenizer);
  }
  if (has_qwen_vocabulary(tokenizer)) {
    return {ChatTemplate::Rules::kQwen25, kQwen25SystemPrompt};
  }
  return {ChatTemplate::Rules::kPlain, std::nullopt};
}

}  // namespace

std::optional<ChatTemplateText> read_chat_template(const std::string& model) {
  if (io::is_model_file(model)) return from_gguf(model);
  const fs::path folder = model;
  if (const auto path = folder / "chat_template.jinja"; is_there(path)) {
    ChatTemplateText out{path.string(), io::read_file(path.string())};
    if (const auto tools = folder / "chat_templates" / "tool_use.jinja"; is_there(tools)) {
      out.tool_use = io::read_file(tools.string());
    }
    return out;
  }
  for (const char* name : {"tokenizer_config.json", "chat_template.json"}) {
    if (const auto path = folder / name; is_there(path)) {
      if (auto found = from_json_file(path.string())) return found;
    }
  }
  return std::nullopt;
}

void check_chat_template_options(const std::string& name, const std::string& variables) {
  require(name.empty() || name == "chatml" || is_file(name),
          "--chat-template: found \"{}\", expected chatml or a file with a template", name);
  if (variables.empty()) return;
  try {
    ChatTemplate(ChatTemplate::Rules::kPlain, std::nullopt).set_variables(variables);
  } catch (const Error& error) {
    fail("--chat-template-kwargs: {} (found {}, expected e.g. {{\"enable_thinking\": false}})",
         error.what(), variables);
  }
}

ChatTemplate load_chat_template(const std::string& folder, const Tokenizer& tokenizer,
                                const std::string& name, const std::string& variables) {
  check_chat_template_options("", variables);
  ChatTemplate out = choose(folder, tokenizer, name);
  out.set_variables(variables);
  return out;
}

}  // namespace qgrpo::tokenizer
