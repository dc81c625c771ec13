#include "serve/tokenizer_info.h"

#include <filesystem>
#include <set>

#include "model/io/file.h"
#include "model/io/json.h"
#include "model/io/paths.h"
#include "tokenizer/special_tokens.h"

namespace qgrpo::serve {

std::string tokenizer_info(const std::string& model, const tokenizer::Tokenizer& tokenizer) {
  namespace fs = std::filesystem;
  io::JsonWriter json;
  std::set<std::string> there;
  json.begin_object();
  const fs::path config = fs::path(model) / "tokenizer_config.json";
  if (io::exists(config)) {
    io::JsonDocument document;
    for (const auto& [key, value] : document.parse_file(config.string()).as_object()) {
      if (key == "added_tokens_decoder" || value.is_null()) continue;
      const bool token = key.ends_with("_token") && value.is_object();
      const auto content = token ? value.find_value("content") : std::nullopt;
      json.key(key);
      json.raw(content ? content->minified() : value.minified());
      there.insert(key);
    }
  }
  const tokenizer::jinja::Dict special = tokenizer::special_tokens(model, tokenizer);
  for (const auto& [key, value] : special.items) {
    if (value.is_string() && there.insert(key.string()).second)
      json.member(key.string(), value.string());
  }
  if (there.insert("tokenizer_class").second)
    json.member("tokenizer_class", "PreTrainedTokenizerFast");
  const fs::path jinja = fs::path(model) / "chat_template.jinja";
  if (there.insert("chat_template").second && io::exists(jinja))
    json.member("chat_template", io::read_file(jinja.string()));
  json.end_object();
  return json.str();
}

}  // namespace qgrpo::serve
