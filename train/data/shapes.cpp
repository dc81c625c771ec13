#include "train/data/shapes.h"

#include <fmt/format.h>

#include <array>
#include <string_view>

#include "model/ops/error.h"

namespace qgrpo::train {
namespace {

// A text that is there and not empty.
std::optional<std::string> text_at(const io::JsonValue& line, const char* key) {
  const auto value = line.find(key);
  if (!value || !value->is_string() || value->as_string_view().empty()) return std::nullopt;
  return value->as_string();
}

std::string message_json(std::string_view role, std::string_view content) {
  return fmt::format("{{\"role\":{},\"content\":{}}}", io::json_string(role),
                     io::json_string(content));
}

// ShareGPT's names of whoever speaks.
std::string role_of(const io::JsonValue& from) {
  struct Name {
    std::string_view from;
    std::string_view role;
  };
  constexpr std::array kNames = {Name{"human", "user"},          Name{"user", "user"},
                                 Name{"gpt", "assistant"},       Name{"chatgpt", "assistant"},
                                 Name{"assistant", "assistant"}, Name{"model", "assistant"},
                                 Name{"bard", "assistant"},      Name{"bing", "assistant"},
                                 Name{"system", "system"},       Name{"tool", "tool"},
                                 Name{"observation", "tool"},    Name{"function_response", "tool"}};
  const std::string_view name = from.as_string_view();
  for (const Name& known : kNames) {
    if (known.from == name) return std::string(known.role);
  }
  fail("{}: found \"{}\", expected human, gpt, system or tool", from.where(), name);
}

std::string joined(const std::vector<std::string>& messages) {
  return fmt::format("[{}]", fmt::join(messages, ","));
}

// The messages of a list whose items have "from" and "value", or "role" and "content".
void add_turns(const io::JsonValue& list, std::vector<std::string>& messages) {
  for (const io::JsonValue& turn : list.as_array()) {
    require(turn.is_object(), "{}: expected {{\"from\": .., \"value\": ..}}", turn.where());
    if (const auto from = turn.find("from")) {
      std::string message = message_json(role_of(*from), turn.at("value").as_string_view());
      message.pop_back();
      for (const auto& [key, value] : turn.as_object()) {  // weight, train ..
        if (key != "from" && key != "value")
          message += fmt::format(",{}:{}", io::json_string(key), value.minified());
      }
      messages.push_back(message + "}");
    } else {
      messages.push_back(turn.minified());
    }
  }
}

bool has_turns_from(const io::JsonValue& list) {
  if (!list.is_array()) return false;
  const auto turns = list.as_array();
  return !turns.empty() && turns.front().is_object() && turns.front().find("from");
}

bool is_alpaca(const io::JsonValue& line) {
  return line.find("instruction").has_value();
}

// The key of alpaca's answer; null: none.
const char* alpaca_output(const io::JsonValue& line) {
  if (!is_alpaca(line)) return nullptr;
  for (const char* key : {"output", "response"}) {
    if (line.find(key)) return key;
  }
  return nullptr;
}

std::string instruction(const io::JsonValue& line) {
  std::string text = line.at("instruction").as_string();
  for (const char* key : {"input", "context"}) {
    if (const auto input = text_at(line, key)) text += "\n" + *input;
  }
  return text;
}

}  // namespace

std::optional<std::string> conversation_of_shape(const io::JsonValue& line) {
  std::vector<std::string> messages;
  if (const auto system = text_at(line, "system"))
    messages.push_back(message_json("system", *system));
  if (const auto turns = line.find("conversations")) {
    add_turns(*turns, messages);
    return joined(messages);
  }
  if (const auto turns = line.find("messages")) {
    if (!has_turns_from(*turns)) return std::nullopt;
    add_turns(*turns, messages);
    return joined(messages);
  }
  if (!is_alpaca(line)) return std::nullopt;
  const auto history = line.find("history");
  if (history && history->is_array()) {
    for (const io::JsonValue& turn : history->as_array()) {
      const auto pair = turn.as_array();
      require(pair.size() == 2, "{}: found {} texts, expected a question and its answer",
              turn.where(), pair.size());
      messages.push_back(message_json("user", pair[0].as_string_view()));
      messages.push_back(message_json("assistant", pair[1].as_string_view()));
    }
  }
  messages.push_back(message_json("user", instruction(line)));
  if (const char* output = alpaca_output(line))
    messages.push_back(message_json("assistant", line.at(output).as_string_view()));
  return joined(messages);
}

std::optional<std::string> alpaca_question(const io::JsonValue& line) {
  if (!is_alpaca(line) || text_at(line, "system")) return std::nullopt;
  const auto history = line.find("history");
  if (history && history->is_array() && !history->as_array().empty()) return std::nullopt;
  return instruction(line);
}

std::string answer_of_shape(const io::JsonValue& line) {
  const auto reward_model = line.find("reward_model");
  if (reward_model && reward_model->is_object() && reward_model->find("ground_truth"))
    return "reward_model.ground_truth";
  if (line.find("problem") && line.find("solution")) return "solution";
  const char* output = alpaca_output(line);
  return output == nullptr ? "" : output;
}

std::optional<io::JsonValue> find_column(const io::JsonValue& line, const std::string& name) {
  if (auto value = line.find(name)) return value;
  const std::size_t dot = name.find('.');
  if (dot == std::string::npos) return std::nullopt;
  const auto outer = line.find(name.substr(0, dot));
  if (!outer || !outer->is_object()) return std::nullopt;
  return find_column(*outer, name.substr(dot + 1));
}

std::string keys_found(const io::JsonValue& line, const std::string& option) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : line.as_object()) {
    keys.push_back('"' + key + '"');
    if (!value.is_object() || keys.size() > 20) continue;
    for (const auto& [inner, ignored] : value.as_object())
      keys.push_back('"' + key + "." + inner + '"');
  }
  return fmt::format("found {}; name the key with {}",
                     keys.empty() ? std::string("no keys") : fmt::to_string(fmt::join(keys, ", ")),
                     option);
}

std::optional<std::string> last_boxed(const std::string& text) {
  constexpr std::string_view mark = "\\boxed{";
  const std::size_t at = text.rfind(mark);
  if (at == std::string::npos) return std::nullopt;
  const std::size_t begin = at + mark.size();
  int depth = 1;
  for (std::size_t i = begin; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
      continue;
    }
    depth += text[i] == '{' ? 1 : text[i] == '}' ? -1 : 0;
    if (depth == 0) return text.substr(begin, i - begin);
  }
  return std::nullopt;
}

}  // namespace qgrpo::train
