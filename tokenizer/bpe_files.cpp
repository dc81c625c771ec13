// Reads the files of byte-level BPE tokenizers in Hugging Face's layouts into a BpeDefinition. What
// this program does not do in the same way as Hugging Face is refused, never approximated.
#include <algorithm>
#include <filesystem>

#include "model/io/file.h"
#include "model/io/json.h"
#include "model/io/json_dom.h"
#include "model/ops/error.h"
#include "tokenizer/bpe_tokenizer.h"
#include "tokenizer/side_tokens.h"

namespace qgrpo::tokenizer {
namespace {

using io::JsonValue;

std::string join(const std::string& folder, const char* name) {
  return (std::filesystem::path(folder) / name).string();
}

bool exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

std::int32_t as_id(const JsonValue& value) {
  const std::int64_t id = value.as_int();
  require(id >= 0 && id <= INT32_MAX, "{}: {} is not a token id", value.where(), id);
  return static_cast<std::int32_t>(id);
}

std::vector<std::pair<std::string, std::int32_t>> read_vocab(const JsonValue& vocab) {
  simdjson::dom::object object;
  require(io::dom(vocab.element()).get(object) == simdjson::SUCCESS,
          "{}: expected an object that maps tokens to ids", vocab.where());
  std::vector<std::pair<std::string, std::int32_t>> entries;
  // Straight from the parser: a JsonValue for each of 150,000 entries would take longer than all
  // else.
  for (const auto field : object) {
    std::int64_t id = -1;
    require(field.value.get(id) == simdjson::SUCCESS && id >= 0 && id <= INT32_MAX,
            "{}: the id of \"{}\" is not a whole number from 0", vocab.where(), field.key);
    entries.emplace_back(std::string(field.key), static_cast<std::int32_t>(id));
  }
  return entries;
}

// Splits "a b". Byte-level tokens contain no space.
std::pair<std::string, std::string> split_merge(std::string_view line, const std::string& where,
                                                std::size_t number) {
  const auto space = line.find(' ');
  require(space != std::string_view::npos && space > 0 && space + 1 < line.size() &&
              line.find(' ', space + 1) == std::string_view::npos,
          "{}: merge {} is \"{}\", expected two tokens with one space between them", where, number,
          line);
  return {std::string(line.substr(0, space)), std::string(line.substr(space + 1))};
}

std::vector<std::pair<std::string, std::string>> read_merges(const JsonValue& merges) {
  simdjson::dom::array array;
  require(io::dom(merges.element()).get(array) == simdjson::SUCCESS,
          "{}: expected an array of merges", merges.where());
  std::vector<std::pair<std::string, std::string>> result;
  for (const auto item : array) {
    std::string_view line;
    simdjson::dom::array pair;
    if (item.get(line) == simdjson::SUCCESS) {
      result.push_back(split_merge(line, merges.where(), result.size()));
      continue;
    }
    std::string_view left;
    std::string_view right;
    require(item.get(pair) == simdjson::SUCCESS && pair.size() == 2 &&
                pair.at(0).get(left) == simdjson::SUCCESS &&
                pair.at(1).get(right) == simdjson::SUCCESS,
            "{}: merge {} is neither \"a b\" nor [\"a\", \"b\"]", merges.where(), result.size());
    result.emplace_back(std::string(left), std::string(right));
  }
  return result;
}

// A component, or the components of a "Sequence" in order; `list` is the key of its members.
void flatten(const JsonValue& component, const char* list, std::vector<JsonValue>& out) {
  if (component.is_null()) return;
  if (component.at("type").as_string_view() != "Sequence") {
    out.push_back(component);
    return;
  }
  for (const auto& part : component.at(list).as_array()) flatten(part, list, out);
}

std::vector<JsonValue> components(const JsonValue& root, const char* key, const char* list) {
  std::vector<JsonValue> out;
  if (const auto value = root.find(key)) flatten(*value, list, out);
  return out;
}

bool read_normalizer(const JsonValue& root) {
  bool nfc = false;
  for (const auto& part : components(root, "normalizer", "normalizers")) {
    const auto type = part.at("type").as_string();
    require(type == "NFC", "{}: the normalizer \"{}\" is not supported (NFC or none is)",
            part.where(), type);
    nfc = true;
  }
  return nfc;
}

void refuse_prefix_space(const JsonValue& byte_level) {
  require(!byte_level.bool_or("add_prefix_space", true),
          "{}: add_prefix_space = true is not supported", byte_level.where());
}

std::string read_pretokenizer(const JsonValue& root) {
  const auto parts = components(root, "pre_tokenizer", "pretokenizers");
  std::string pattern;
  bool byte_level = false;
  for (const auto& part : parts) {
    const auto type = part.at("type").as_string();
    if (type == "Split" && pattern.empty() && !byte_level) {
      const auto expression = part.at("pattern").find("Regex");
      require(expression.has_value(), "{}: only patterns of the kind \"Regex\" are supported",
              part.where());
      pattern = expression->as_string();
      require(!pattern.empty(), "{}: the pattern is empty", part.where());
      const auto behavior = part.at("behavior").as_string();
      require(behavior == "Isolated" && !part.bool_or("invert", false),
              "{}: the behavior \"{}\"{} is not supported (\"Isolated\" is)", part.where(),
              behavior, part.bool_or("invert", false) ? " with invert" : "");
    } else if (type == "ByteLevel" && !byte_level) {
      byte_level = true;
      refuse_prefix_space(part);
      if (part.bool_or("use_regex", true)) {
        require(pattern.empty(), "{}: ByteLevel with use_regex after a Split is not supported",
                part.where());
        pattern = kGpt2Pattern;
      }
    } else {
      fail(
          "{}: the pre-tokenizer \"{}\" is not supported (here one Split and then one ByteLevel "
          "are)",
          part.where(), type);
    }
  }
  require(byte_level, "{}: no ByteLevel pre-tokenizer: only byte-level BPE is supported",
          root.where());
  return pattern;
}

void check_decoder(const JsonValue& root) {
  const auto parts = components(root, "decoder", "decoders");
  require(parts.size() == 1 && parts[0].at("type").as_string_view() == "ByteLevel",
          "{}: the decoder is not supported (one ByteLevel is)", root.where());
}

void read_post_processor(const JsonValue& root, BpeDefinition& definition) {
  for (const auto& part : components(root, "post_processor", "processors")) {
    const auto type = part.at("type").as_string();
    if (type == "ByteLevel") continue;  // changes only the offsets of tokens in the text
    require(type == "TemplateProcessing", "{}: the post-processor \"{}\" is not supported",
            part.where(), type);
    bool behind = false;
    for (const auto& piece : part.at("single").as_array()) {
      if (piece.find("Sequence")) {
        require(!behind, "{}: the text appears twice, which is not supported", piece.where());
        behind = true;
        continue;
      }
      const auto name = piece.at("SpecialToken").at("id").as_string();
      auto& side = behind ? definition.suffix : definition.prefix;
      for (const auto id : part.at("special_tokens").at(name).at("ids").as_ids()) {
        side.push_back(id);
      }
    }
    require(behind, "{}: the template leaves the text out", part.where());
  }
}

void check_model(const JsonValue& model) {
  const auto type = model.find_value("type");
  require(!type || type->as_string_view() == "BPE",
          "{}: the model type \"{}\" is not supported (\"BPE\" is)", model.where(),
          type ? type->as_string() : "");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const auto value = model.find_value(key);
    require(!value || value->as_string_view().empty(), "{}: {} = \"{}\" is not supported",
            model.where(), key, value ? value->as_string() : "");
  }
  require(!model.bool_or("byte_fallback", false),
          "{}: byte_fallback (a converted SentencePiece tokenizer) is read from tokenizer.model; "
          "put that beside it",
          model.where());
  const auto dropout = model.find_value("dropout");
  require(!dropout || dropout->as_double() == 0, "{}: dropout is not supported", model.where());
}

// The class whose vocab.json and merges.txt these are: the files do not say how text is cut.
void check_class(const std::string& folder) {
  const auto path = join(folder, "tokenizer_config.json");
  if (!exists(path)) return;
  io::JsonDocument document;
  const auto type = document.parse_file(path).find_value("tokenizer_class");
  if (!type) return;
  const auto name = type->as_string();
  require(name == "Qwen2Tokenizer" || name == "Qwen2TokenizerFast",
          "{}: vocab.json and merges.txt of the class \"{}\" are not supported (Qwen2Tokenizer's "
          "are): provide tokenizer.json",
          path, name);
}

}  // namespace

BpeDefinition read_tokenizer_json(const std::string& folder) {
  BpeDefinition definition;
  definition.where = join(folder, "tokenizer.json");
  io::JsonDocument document;
  const auto root = document.parse_file(definition.where, io::kMostFileBytes);
  const auto model = root.at("model");
  check_model(model);
  check_decoder(root);
  definition.vocab = read_vocab(model.at("vocab"));
  definition.merges = read_merges(model.at("merges"));
  definition.ignore_merges = model.bool_or("ignore_merges", false);
  definition.nfc = read_normalizer(root);
  definition.pattern = read_pretokenizer(root);
  read_post_processor(root, definition);
  if (const auto tokens = root.find_value("added_tokens")) {
    for (const auto& entry : tokens->as_array()) {
      definition.added.push_back(read_added_token(entry, as_id(entry.at("id"))));
    }
  }
  add_side_tokens(folder, definition);
  return definition;
}

BpeDefinition read_vocab_and_merges(const std::string& folder) {
  BpeDefinition definition;
  definition.where = join(folder, "vocab.json");
  definition.pattern = kQwen2Pattern;
  io::JsonDocument document;
  definition.vocab = read_vocab(document.parse_file(definition.where, io::kMostFileBytes));

  const auto path = join(folder, "merges.txt");
  const std::string text = io::read_file(path);
  std::string_view rest = text;
  for (std::size_t number = 1; !rest.empty(); ++number) {
    const auto end = rest.find('\n');
    auto line = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    const bool header = number == 1 && line.starts_with("#version");
    if (line.empty() || header) continue;
    definition.merges.push_back(split_merge(line, fmt::format("{} line {}", path, number), number));
  }
  check_class(folder);
  if (!add_side_tokens(folder, definition)) {
    // What Qwen2Tokenizer has where nothing is said.
    std::int32_t next = 0;
    for (const auto& [token, id] : definition.vocab) next = std::max(next, id + 1);
    definition.added = {{.id = next, .content = "<|endoftext|>", .special = true}};
  }
  return definition;
}

}  // namespace qgrpo::tokenizer
