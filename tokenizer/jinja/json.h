#pragma once

#include <string>

#include "model/io/json.h"
#include "tokenizer/jinja/value.h"

namespace qgrpo::tokenizer::jinja {

// json.dumps.
struct JsonStyle {
  bool ensure_ascii = false;
  std::string indent = {};
  bool lines = false;  // one element a line, indented by `indent`
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};
std::string to_json(const Value& value, const JsonStyle& style);

// Parsed JSON as a value. Throws Error naming what does not fit (numbers of 2^63 or more).
Value from_json(const io::JsonValue& json);

}  // namespace qgrpo::tokenizer::jinja
