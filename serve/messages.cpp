#include "serve/messages.h"

#include "serve/api_error.h"

namespace qgrpo::serve {
namespace {

std::string plain_content(const io::JsonValue& content) {
  if (content.is_null()) return "";
  if (content.is_string()) return content.as_string();
  require_request(content.is_array(), "messages",
                  "messages: a content is a text, or a list of parts");
  std::string text;
  bool first = true;
  for (const io::JsonValue& part : content.as_array()) {
    if (!first) text += '\n';
    first = false;
    if (part.is_string()) {
      text += part.as_string();
      continue;
    }
    const auto type = part.is_object() ? part.find_value("type") : std::nullopt;
    const bool is_text = type && type->is_string() && type->as_string_view() == "text";
    require_request(is_text, "messages",
                    "messages: a part of a content is no text: this model reads text alone");
    text += part.at("text").as_string();
  }
  return text;
}

void write_call(io::JsonWriter& json, const io::JsonValue& call) {
  json.begin_object();
  for (const auto& [key, value] : call.as_object()) {
    json.key(key);
    if (key == "function" && value.is_object()) {
      write_call(json, value);
    } else if (key == "arguments" && value.is_string()) {
      try {
        io::JsonDocument document;
        const std::string text = value.as_string();
        json.raw(text.empty() ? "{}" : document.parse(text, "arguments").minified());
      } catch (const Error& error) {
        throw ApiError(400, fmt::format("messages: the arguments of a tool call: {}", error.what()),
                       "messages");
      }
    } else {
      json.raw(value.minified());
    }
  }
  json.end_object();
}

void write_message(io::JsonWriter& json, const io::JsonValue& message) {
  json.begin_object();
  bool content = false;
  for (const auto& [key, value] : message.as_object()) {
    if (key == "content") {
      content = true;
      json.member("content", plain_content(value));
    } else if (key == "tool_calls" && value.is_array()) {
      if (value.as_array().empty()) continue;
      json.key(key);
      json.begin_array();
      for (const io::JsonValue& call : value.as_array()) write_call(json, call);
      json.end_array();
    } else if (!value.is_null()) {
      json.key(key);
      json.raw(value.minified());
    }
  }
  require_request(content || message.find_value("tool_calls"), "messages",
                  "messages: one has no content");
  if (!content) json.member("content", "");
  json.end_object();
}

}  // namespace

std::string plain_messages(const io::JsonValue& messages) {
  io::JsonWriter json;
  json.begin_array();
  for (const io::JsonValue& message : messages.as_array()) write_message(json, message);
  json.end_array();
  return json.str();
}

}  // namespace qgrpo::serve
