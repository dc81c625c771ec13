#include "tokenizer/special_tokens.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>

#include "model/io/gguf.h"
#include "model/io/json.h"
#include "model/ops/error.h"
#include "tokenizer/load.h"

namespace qgrpo::tokenizer {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 7> kSpecialTokens = {
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};

// What transformers' tokenizer classes have where the folder says nothing.
struct ClassTokens {
  std::string_view family;
  std::array<std::string_view, 7> tokens;  // in the order of kSpecialTokens; empty: none
};
constexpr std::array<ClassTokens, 3> kClassTokens = {{
    {"Qwen2", {"", "<|endoftext|>", "<|endoftext|>", "", "<|endoftext|>", "", ""}},
    {"Llama", {"<s>", "</s>", "<unk>", "", "", "", ""}},
    {"Gemma", {"<bos>", "<eos>", "<unk>", "", "<pad>", "", "<mask>"}},
}};

// A special token as JSON has it: a text, or an object with the key "content".
std::optional<std::string> token_text(const io::JsonValue& value) {
  if (value.is_null()) return std::nullopt;
  return value.is_object() ? value.at("content").as_string() : value.as_string();
}

jinja::Dict gguf_special_tokens(const std::string& path, const Tokenizer& tokenizer) {
  const io::GgufFile file(path);
  jinja::Dict out;
  for (const auto& [key, name] : {std::pair{"bos", "bos_token"},
                                  {"eos", "eos_token"},
                                  {"unknown", "unk_token"},
                                  {"padding", "pad_token"}}) {
    const io::GgufValue* id = file.find(fmt::format("tokenizer.ggml.{}_token_id", key));
    if (id == nullptr) continue;
    if (auto text = tokenizer.id_to_token(static_cast<std::int32_t>(id->as_int()))) {
      out.set(name, std::string(*text));
    }
  }
  return out;
}

}  // namespace

jinja::Dict special_tokens(const std::string& model, const Tokenizer& tokenizer) {
  const fs::path folder = model;
  if (io::is_model_file(model)) {
    return gguf_special_tokens(model, tokenizer);
  }
  std::array<std::optional<std::string>, 7> tokens;
  std::array<bool, 7> said = {};
  std::string tokenizer_class;
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const auto path = folder / name;
    std::error_code error;
    if (!fs::exists(path, error)) continue;
    io::JsonDocument document;
    const auto root = document.parse_file(path.string());
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const auto value = root.find(kSpecialTokens[i]);
      if (!value || said[i]) continue;
      tokens[i] = token_text(*value);
      said[i] = true;
    }
    if (const auto value = root.find("tokenizer_class"); value && value->is_string()) {
      tokenizer_class = value->as_string();
    }
  }
  jinja::Dict out;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    for (const auto& known : kClassTokens) {
      if (!said[i] && tokenizer_class.starts_with(known.family) && !known.tokens[i].empty()) {
        tokens[i] = known.tokens[i];
      }
    }
    if (tokens[i]) out.set(kSpecialTokens[i], *tokens[i]);
  }
  return out;
}

namespace {

// What the assistant's turn of a rendered conversation ends with: the first special token behind
// its content. Nothing where the template ends it with text, with nothing, or cannot render this.
std::optional<std::int32_t> end_of_turn(const ChatTemplate& chat, const Tokenizer& tokenizer) {
  static constexpr std::string_view kAnswer = "qgrpo-answer";
  const std::vector<Message> messages = {{"user", "Hello"}, {"assistant", std::string(kAnswer)}};
  std::string text;
  try {
    text = chat.render(messages, false);
  } catch (const Error&) {
    return std::nullopt;
  }
  const std::size_t answer = text.rfind(kAnswer);
  if (answer == std::string::npos) return std::nullopt;
  for (const auto id : tokenizer.encode_rendered(text.substr(answer + kAnswer.size()))) {
    if (tokenizer.is_special(id)) return id;
  }
  return std::nullopt;
}

}  // namespace

std::vector<std::int32_t> eos_ids(const std::string& model,
                                  std::span<const std::int32_t> configured,
                                  const Tokenizer& tokenizer, const ChatTemplate* chat) {
  std::vector<std::int32_t> ids;
  const auto add = [&](std::optional<std::int32_t> id) {
    if (id && std::find(ids.begin(), ids.end(), *id) == ids.end()) ids.push_back(*id);
  };
  const jinja::Dict tokens = special_tokens(model, tokenizer);
  if (const jinja::Value* eos = tokens.find(std::string_view("eos_token")))
    add(tokenizer.token_to_id(eos->string()));
  for (const std::int32_t id : configured) add(id);
  if (chat != nullptr) add(end_of_turn(*chat, tokenizer));
  return ids;
}

std::vector<std::int32_t> eos_ids(const std::string& model,
                                  std::span<const std::int32_t> configured) {
  if (!has_tokenizer(model)) return {configured.begin(), configured.end()};
  const auto tokenizer = load_tokenizer(model);
  std::optional<ChatTemplate> chat;
  try {
    chat = load_chat_template(model, *tokenizer);
  } catch (const Error&) {
    // None, or one that is not understood: no conversation is rendered by it.
  }
  return eos_ids(model, configured, *tokenizer, chat ? &*chat : nullptr);
}

}  // namespace qgrpo::tokenizer
