#include "tokenizer/chat_template.h"

#include <array>
#include <filesystem>

#include "model/io/file.h"
#include "model/ops/error.h"
#include "tokenizer/jinja/json.h"

namespace qgrpo::tokenizer {

const char* const kQwen25SystemPrompt =
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";

namespace {

// The names under which messages carry the assistant's thoughts. Templates read the first.
constexpr std::array<std::string_view, 3> kReasoning = {"reasoning_content", "thinking",
                                                        "reasoning"};

jinja::Value parse_value(const std::string& json, const std::string& where) {
  io::JsonDocument document;
  return jinja::from_json(document.parse(json, where));
}

// A message as the template sees it: without null members, its thoughts under both names.
jinja::Value message_value(const Message& message, std::size_t i) {
  const auto out = std::make_shared<jinja::Dict>();
  if (message.json.empty()) {
    out->set("role", message.role);
    out->set("content", message.content);
    return out;
  }
  const jinja::Value whole = parse_value(message.json, fmt::format("message {}", i));
  require(whole.is_dict(), "message {}: expected an object", i);
  const jinja::Value* reasoning = nullptr;
  for (const auto name : kReasoning) {
    const jinja::Value* found = whole.dict().find(name);
    if (reasoning == nullptr && found != nullptr && !found->is_none()) reasoning = found;
  }
  if (reasoning != nullptr) out->set("thinking", *reasoning);
  for (const auto& [key, value] : whole.dict().items) {
    if (!value.is_none()) out->set(key, value);
  }
  if (reasoning != nullptr) out->set("reasoning_content", *reasoning);
  return out;
}

void add_variables(jinja::Dict& to, const std::string& json) {
  if (json.empty()) return;
  const jinja::Value all = parse_value(json, "chat template variables");
  require(all.is_dict(), "chat template variables: expected a JSON object");
  for (const auto& [key, value] : all.dict().items) {
    for (const char* own : {"messages", "tools", "documents", "add_generation_prompt"}) {
      require(key.string() != own, "chat template variables: \"{}\" is not one of them", own);
    }
    to.set(key, value);
  }
}

jinja::Value list_or_none(const std::string& json, const char* what) {
  if (json.empty()) return {};
  const jinja::Value value = parse_value(json, what);
  require(value.is_none() || value.is_sequence(), "{}: expected a JSON array", what);
  return value;
}

}  // namespace

void ChatTemplate::set_variables(const std::string& json) {
  jinja::Dict check;
  add_variables(check, json);
  variables_ = json;
}

std::string ChatTemplate::render_chatml(std::span<const Message> messages,
                                        bool add_generation_prompt) const {
  std::string text;
  const auto turn = [&](std::string_view role, std::string_view content) {
    text += fmt::format("<|im_start|>{}\n{}<|im_end|>\n", role, content);
  };
  if (default_system_ && messages[0].role != "system") turn("system", *default_system_);
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    const std::string& content = messages[i].content;
    require(!messages[i].says_more,
            "message {} has more than a role and a text (tool_calls, parts, ...), which the "
            "built-in ChatML does not know: use the model's own template",
            i);
    if (rules_ == Rules::kPlain || role != "tool") {
      turn(role, content);
      continue;
    }
    const bool first = i == 0 || messages[i - 1].role != "tool";
    const bool last = i + 1 == messages.size() || messages[i + 1].role != "tool";
    if (first) text += "<|im_start|>user";
    text += fmt::format("\n<tool_response>\n{}\n</tool_response>", content);
    if (last) text += "<|im_end|>\n";
  }
  if (add_generation_prompt) text += "<|im_start|>assistant\n";
  return text;
}

jinja::Rendering ChatTemplate::render(std::span<const Message> messages,
                                      const RenderOptions& options) const {
  require(!messages.empty(), "a conversation needs at least one message");
  if (rules_ == Rules::kQwen25) {
    for (std::size_t i = 0; i < messages.size(); ++i) {
      const std::string& role = messages[i].role;
      if (role != "system" && role != "user" && role != "assistant" && role != "tool") {
        fail("message {} has the role \"{}\": expected system, user, assistant or tool", i, role);
      }
    }
  }
  const jinja::Value tools = list_or_none(options.tools, "tools");
  const jinja::Value documents = list_or_none(options.documents, "documents");
  if (!source_) {
    require(tools.is_none() && documents.is_none(),
            "the built-in ChatML knows no tools and documents: use the model's own template");
    return {render_chatml(messages, options.add_generation_prompt), {}};
  }
  jinja::Dict variables = source_->special_tokens;
  add_variables(variables, variables_);
  add_variables(variables, options.variables);
  std::vector<jinja::Value> turns;
  for (std::size_t i = 0; i < messages.size(); ++i) turns.push_back(message_value(messages[i], i));
  variables.set("messages", jinja::make_list(std::move(turns)));
  variables.set("tools", tools);
  variables.set("documents", documents);
  variables.set("add_generation_prompt", options.add_generation_prompt);
  const bool with_tools = !tools.is_none() && source_->tool_use != nullptr;
  return (with_tools ? source_->tool_use : source_->standard)->render(variables);
}

std::string ChatTemplate::render(std::span<const Message> messages,
                                 bool add_generation_prompt) const {
  RenderOptions options;
  options.add_generation_prompt = add_generation_prompt;
  return render(messages, options).text;
}

std::vector<Message> read_messages(const io::JsonValue& messages) {
  std::vector<Message> out;
  for (const auto& entry : messages.as_array()) {
    Message message;
    message.role = entry.at("role").as_string();
    bool more = false;
    bool calls = false;
    for (const auto& [key, value] : entry.as_object()) {
      if (key == "role" || key == "content" || value.is_null()) continue;
      more = true;
      message.says_more |= key != "weight" && key != "train" && key != "loss";
      calls = calls || key == "tool_calls" || key == "function_call";
    }
    const auto content = entry.find("content");
    if (content && content->is_array()) {
      more = message.says_more = true;
    } else if (!calls || (content && !content->is_null())) {
      message.content = entry.at("content").as_string();
    }
    if (more) message.json = entry.minified();
    out.push_back(std::move(message));
  }
  require(!out.empty(), "{}: expected at least one message", messages.where());
  return out;
}

RenderOptions read_template_variables(const io::JsonValue& line) {
  RenderOptions out;
  if (const auto tools = line.find_value("tools")) {
    if (tools->is_string()) {
      io::JsonDocument document;
      const io::JsonValue parsed = document.parse(tools->as_string(), tools->where());
      (void)parsed.as_array();  // says what is wrong
      out.tools = parsed.minified();
    } else {
      (void)tools->as_array();
      out.tools = tools->minified();
    }
  }
  if (const auto variables = line.find_value("chat_template_kwargs")) {
    (void)variables->as_object();
    out.variables = variables->minified();
    jinja::Dict check;
    try {
      add_variables(check, out.variables);
    } catch (const Error& error) {
      fail("{}: {}", variables->where(), error.what());
    }
  }
  return out;
}

RenderOptions read_render_options(const io::JsonValue& line, bool standard) {
  RenderOptions out = read_template_variables(line);
  const auto prompt = line.find_value("add_generation_prompt");
  out.add_generation_prompt = prompt ? prompt->as_bool() : standard;
  if (const auto documents = line.find_value("documents")) {
    (void)documents->as_array();
    out.documents = documents->minified();
  }
  return out;
}

}  // namespace qgrpo::tokenizer
