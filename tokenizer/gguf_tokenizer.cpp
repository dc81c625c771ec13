#include "tokenizer/gguf_tokenizer.h"

#include <algorithm>

namespace qgrpo::tokenizer {
namespace {

// llama.cpp's llama_token_type.
enum TokenType : std::int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

// tokenizer.ggml.pre: how llama.cpp cuts words, and what it does beside.
struct Pre {
  std::string_view name;
  const char* pattern;
  bool nfc = false;
  bool ignore_merges = false;
  bool add_bos = false;  // where tokenizer.ggml.add_bos_token does not say
};
// The first of a kind is the name that is written.
const Pre kPres[] = {
    {.name = "qwen2", .pattern = kQwen2Pattern, .nfc = true},
    {.name = "deepseek-r1-qwen", .pattern = kQwen2Pattern, .nfc = true},
    {.name = "megrez", .pattern = kQwen2Pattern, .nfc = true},
    {.name = "llama-bpe", .pattern = kLlama3Pattern, .ignore_merges = true, .add_bos = true},
    {.name = "llama3", .pattern = kLlama3Pattern, .ignore_merges = true, .add_bos = true},
    {.name = "llama-v3", .pattern = kLlama3Pattern, .ignore_merges = true, .add_bos = true},
    {.name = "gpt-2", .pattern = kGpt2Pattern},
};

bool flag(const io::GgufFile& file, const char* key, bool otherwise) {
  const io::GgufValue* value = file.find(key);
  return value != nullptr ? value->as_bool() : otherwise;
}

}  // namespace

bool has_gguf_tokenizer(const io::GgufFile& file) {
  return file.find("tokenizer.ggml.tokens") != nullptr;
}

BpeDefinition read_gguf_tokenizer(const io::GgufFile& file) {
  BpeDefinition definition;
  definition.where = file.path();
  require(has_gguf_tokenizer(file), "{}: has no tokenizer; give token ids", file.path());
  const std::string_view model = file.at("tokenizer.ggml.model").as_string();
  require(model == "gpt2",
          "{}: tokenizer.ggml.model is \"{}\", which is not supported (\"gpt2\" is)", file.path(),
          model);
  // Files from before the key was there are Qwen2's as well: the architecture says so.
  const io::GgufValue* pre = file.find("tokenizer.ggml.pre");
  const std::string name(pre != nullptr ? pre->as_string() : "qwen2");
  const Pre* known = std::find_if(std::begin(kPres), std::end(kPres),
                                  [&](const Pre& entry) { return entry.name == name; });
  require(known != std::end(kPres),
          "{}: tokenizer.ggml.pre is \"{}\", which is not supported (\"qwen2\", \"llama-bpe\" and "
          "\"gpt-2\" are)",
          file.path(), name);
  definition.pattern = known->pattern;
  definition.nfc = known->nfc;
  definition.ignore_merges = known->ignore_merges;

  const auto tokens = file.at("tokenizer.ggml.tokens").as_strings();
  const auto types = file.at("tokenizer.ggml.token_type").as_ints();
  require(types.size() == tokens.size(), "{}: {} token types for {} tokens; the file is corrupt",
          file.path(), types.size(), tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto id = static_cast<std::int32_t>(i);
    switch (types[i]) {
      case kControl:
      case kUserDefined:
        require(!tokens[i].empty(), "{}: token {} is empty", file.path(), i);
        definition.added.push_back(
            {.id = id, .content = std::string(tokens[i]), .special = types[i] == kControl});
        break;
      case kUnused:
        break;
      case kNormal:
      case kUnknown:
      case kByte:
        definition.vocab.emplace_back(tokens[i], id);
        break;
      default:
        fail("{}: token {} has the unknown type {}", file.path(), i, types[i]);
    }
  }
  for (const std::string_view merge : file.at("tokenizer.ggml.merges").as_strings()) {
    const auto space = merge.find(' ', 1);
    require(space != std::string_view::npos && space + 1 < merge.size(),
            "{}: tokenizer.ggml.merges has \"{}\", expected two tokens with a space between them",
            file.path(), merge);
    definition.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  const auto added_id = [&](const char* wanted, const char* key, bool otherwise = false) {
    std::vector<std::int32_t> ids;
    if (flag(file, wanted, otherwise))
      ids.push_back(static_cast<std::int32_t>(file.at(key).as_int()));
    return ids;
  };
  definition.prefix =
      added_id("tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id", known->add_bos);
  definition.suffix = added_id("tokenizer.ggml.add_eos_token", "tokenizer.ggml.eos_token_id");
  return definition;
}

void add_gguf_tokenizer(io::GgufHeader& header, const BpeDefinition& definition,
                        std::int64_t vocab_size) {
  const Pre* const pre = std::find_if(std::begin(kPres), std::end(kPres), [&](const Pre& entry) {
    return definition.pattern == entry.pattern;
  });
  require(
      pre != std::end(kPres),
      "{}: GGUF has no name for this tokenizer's pattern (those of Qwen2, Llama 3 and GPT-2 have "
      "one)",
      definition.where);
  require(
      definition.prefix.size() <= 1 && definition.ignore_merges == pre->ignore_merges,
      "{}: a tokenizer that adds several tokens before a text, or takes whole words {} merging, is "
      "not supported in GGUF with this pattern",
      definition.where, definition.ignore_merges ? "before" : "only by");
  std::vector<std::string> tokens(vocab_size);
  std::vector<std::int32_t> types(tokens.size(), kUnused);
  const auto put = [&](std::int32_t id, const std::string& token, std::int32_t type) {
    require(id < vocab_size, "{}: token \"{}\" has the id {}, but the model has {} tokens",
            definition.where, token, id, vocab_size);
    tokens[id] = token;
    types[id] = type;
  };
  for (const auto& [token, id] : definition.vocab) put(id, token, kNormal);
  for (const AddedToken& added : definition.added) {
    // As BpeTokenizer: a token that the vocabulary has too keeps the vocabulary's id.
    const auto known =
        std::find_if(definition.vocab.begin(), definition.vocab.end(),
                     [&](const auto& entry) { return entry.first == added.content; });
    const std::int32_t id = known != definition.vocab.end() ? known->second : added.id;
    // A token that was added beside the model, without a row for it, is none of the model's.
    if (id >= vocab_size) continue;
    put(id, added.content, added.special ? kControl : kUserDefined);
  }
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (types[id] == kUnused) tokens[id] = fmt::format("[PAD{}]", id);
  }
  std::vector<std::string> merges;
  merges.reserve(definition.merges.size());
  for (const auto& [left, right] : definition.merges) merges.push_back(left + " " + right);
  header.add("tokenizer.ggml.model", "gpt2");
  header.add("tokenizer.ggml.pre", pre->name);
  header.add("tokenizer.ggml.tokens", tokens);
  header.add("tokenizer.ggml.token_type", types);
  header.add("tokenizer.ggml.merges", merges);
  header.add("tokenizer.ggml.add_bos_token", !definition.prefix.empty());
}

}  // namespace qgrpo::tokenizer
