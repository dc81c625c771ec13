// Any JSON text: the parser, its account of what is wrong, and what is written again.
#include "model/io/json.h"
#include "fuzz/target.h"
#include "model/io/json_trouble.h"
#include "tokenizer/jinja/json.h"

using namespace qgrpo;

namespace {

void walk(const io::JsonValue& value, int depth) {
  if (value.is_string()) fuzz::check(value.as_string() == value.as_string_view(), "a text differs");
  if (value.is_array()) {
    for (const auto& item : value.as_array()) walk(item, depth + 1);
  }
  if (value.is_object()) {
    for (const auto& [key, item] : value.as_object()) walk(item, depth + 1);
  }
}

}  // namespace

QGRPO_FUZZ_TARGET(json) {
  io::json_trouble(input);
  io::JsonDocument document;
  const io::JsonValue root = document.parse(input, "input");
  walk(root, 0);
  const std::string once = root.minified();
  io::JsonDocument second;
  fuzz::check(second.parse(once, "again").minified() == once, "JSON changes when it is written");
  tokenizer::jinja::to_json(tokenizer::jinja::from_json(root), {});
}
