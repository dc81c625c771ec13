#include "tokenizer/side_tokens.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <map>
#include <unordered_map>

#include "model/io/notes.h"
#include "model/ops/error.h"

namespace qgrpo::tokenizer {
namespace {

using io::JsonValue;

// In transformers' order, in which new ones get their ids.
constexpr std::array kNamed = {"bos_token", "eos_token", "unk_token", "sep_token",
                               "pad_token", "cls_token", "mask_token"};

// A special token as a text, or an object with its flags.
AddedToken special_token(const JsonValue& value) {
  if (value.is_string()) return {.content = value.as_string(), .special = true};
  AddedToken token = read_added_token(value, 0);
  token.special = true;
  token.normalized = value.bool_or("normalized", false);
  return token;
}

// The special tokens of one file: by name, and those without a name.
struct Specials {
  std::map<std::string, AddedToken> named;
  std::vector<AddedToken> extra;

  void read(const JsonValue& root) {
    for (const auto& [key, value] : root.as_object()) {
      const bool standard = std::find(kNamed.begin(), kNamed.end(), key) != kNamed.end();
      if (standard && value.is_null()) named.erase(key);
      // Others are a model's own ("image_token"), where they are texts.
      if (standard ? !value.is_null() : key.ends_with("_token") && value.is_string()) {
        named.insert_or_assign(key, special_token(value));
      }
    }
    for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
      const auto list = root.find_value(key);
      if (!list) continue;
      if (list->is_object()) {
        for (const auto& [name, value] : list->as_object()) {
          named.insert_or_assign(name, special_token(value));
        }
        continue;
      }
      for (const auto& value : list->as_array()) extra.push_back(special_token(value));
    }
  }

  // All, in the order of new ids.
  std::vector<AddedToken> all() const {
    std::vector<AddedToken> out;
    for (const char* name : kNamed) {
      if (const auto found = named.find(name); found != named.end()) out.push_back(found->second);
    }
    for (const auto& [name, token] : named) {
      if (std::find(kNamed.begin(), kNamed.end(), name) == kNamed.end()) out.push_back(token);
    }
    out.insert(out.end(), extra.begin(), extra.end());
    std::erase_if(out, [](const AddedToken& token) { return token.content.empty(); });
    return out;
  }
};

class SideTokens {
 public:
  SideTokens(const std::string& folder, BpeDefinition& definition)
      : folder_(folder), definition_(definition) {
    for (const auto& [token, id] : definition.vocab) vocab_.emplace(token, id);
    next_ = static_cast<std::int32_t>(definition.vocab.size());
    for (std::size_t i = 0; i < definition.added.size(); ++i) {
      const AddedToken& token = definition.added[i];
      places_.emplace(token.content, i);
      if (vocab_.count(token.content) == 0) next_ = std::max(next_, token.id + 1);
    }
  }

  bool read() {
    Specials specials;
    bool decoder = false;
    io::JsonDocument document;
    if (const auto path = file("tokenizer_config.json"); !path.empty()) {
      const JsonValue config = document.parse_file(path);
      configured_ = true;
      const auto type = config.find_value("tokenizer_class");
      qwen2_ = type && type->is_string() && type->as_string_view().starts_with("Qwen2Tokenizer");
      refuse(config);
      specials.read(config);
      if (const auto tokens = config.find_value("added_tokens_decoder")) {
        decoder = true;
        read_decoder(*tokens);
      }
    }
    if (!decoder) {
      if (const auto path = file("special_tokens_map.json"); !path.empty()) {
        configured_ = true;
        specials.read(document.parse_file(path));
      }
    }
    const std::vector<AddedToken> all = specials.all();
    if (!decoder) {
      if (const auto path = file("added_tokens.json"); !path.empty()) {
        read_added_tokens(document.parse_file(path), all);
      }
    }
    for (const AddedToken& token : all) {
      if (const auto place = places_.find(token.content); place != places_.end()) {
        if (qwen2_) definition_.added[place->second].special = true;
      } else {
        add_new(token);
      }
    }
    return found_;
  }

 private:
  std::string file(const char* name) const {
    const auto path = (std::filesystem::path(folder_) / name).string();
    std::error_code error;
    return std::filesystem::exists(path, error) ? path : "";
  }

  void refuse(const JsonValue& config) const {
    require(!config.bool_or("split_special_tokens", false),
            "{}: split_special_tokens is true, which is not supported (false is)", config.where());
    require(!qwen2_ || !config.bool_or("add_prefix_space", false),
            "{}: add_prefix_space is true, which is not supported (false is)", config.where());
  }

  void read_decoder(const JsonValue& tokens) {
    std::map<std::int32_t, AddedToken> in_order;
    for (const auto& [key, entry] : tokens.as_object()) {
      std::int32_t id = -1;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      require(error == std::errc() && end == key.data() + key.size() && id >= 0,
              "{}: \"{}\" is not a token id", tokens.where(), key);
      in_order[id] = read_added_token(entry, id);
    }
    add_all(in_order, tokens.where());
  }

  void read_added_tokens(const JsonValue& root, const std::vector<AddedToken>& specials) {
    std::map<std::int32_t, AddedToken> in_order;
    for (const auto& [content, value] : root.as_object()) {
      const std::int64_t id = value.as_int();
      require(id >= 0 && id <= INT32_MAX, "{}: {} is not a token id", value.where(), id);
      // This file does not say which are special: those that another file gives a name to; where
      // there is no such file, what looks like a control token.
      const bool special =
          (!configured_ && content.starts_with("<|") && content.ends_with("|>")) ||
          std::any_of(specials.begin(), specials.end(),
                      [&name = content](const AddedToken& token) { return token.content == name; });
      in_order[static_cast<std::int32_t>(id)] = {.id = static_cast<std::int32_t>(id),
                                                 .content = content,
                                                 .special = special,
                                                 .normalized = !special};
    }
    // tokenizer.json's own flags go before this file.
    std::erase_if(in_order,
                  [&](const auto& entry) { return places_.count(entry.second.content) != 0; });
    add_all(in_order, root.where());
  }

  void add_all(const std::map<std::int32_t, AddedToken>& in_order, const std::string& where) {
    for (const auto& [id, token] : in_order) {
      found_ = true;
      for (const AddedToken& known : definition_.added) {
        require(known.id != id || known.content == token.content,
                "{}: id {} is \"{}\", but {} has \"{}\" there", where, id, token.content,
                definition_.where, known.content);
      }
      if (const auto place = places_.find(token.content); place != places_.end()) {
        AddedToken& known = definition_.added[place->second];
        const bool special = token.special || (!qwen2_ && known.special);
        const std::int32_t own = known.id;
        known = token;
        known.id = own;
        known.special = special;
        continue;
      }
      const std::int32_t given = add_new(token);
      if (given != id) {
        io::note(fmt::format("{}: \"{}\" has the id {}, as transformers counts it, not {}", where,
                             token.content, given, id));
      }
    }
  }

  // Returns its id.
  std::int32_t add_new(AddedToken token) {
    found_ = true;
    const auto known = vocab_.find(token.content);
    token.id = known != vocab_.end() ? known->second : next_++;
    places_.emplace(token.content, definition_.added.size());
    definition_.added.push_back(token);
    return token.id;
  }

  std::string folder_;
  BpeDefinition& definition_;
  std::unordered_map<std::string_view, std::int32_t> vocab_;  // views of the definition's
  std::unordered_map<std::string, std::size_t> places_;       // in definition_.added
  std::int32_t next_ = 0;
  bool qwen2_ = false;
  bool configured_ = false;  // a file that can name special tokens is there
  bool found_ = false;
};

}  // namespace

AddedToken read_added_token(const JsonValue& entry, std::int32_t id) {
  AddedToken token;
  token.id = id;
  token.content = entry.at("content").as_string();
  token.special = entry.bool_or("special", false);
  token.normalized = entry.bool_or("normalized", !token.special);
  token.lstrip = entry.bool_or("lstrip", false);
  token.rstrip = entry.bool_or("rstrip", false);
  token.single_word = entry.bool_or("single_word", false);
  require(!token.content.empty(), "{}: an added token is empty", entry.where());
  return token;
}

bool add_side_tokens(const std::string& folder, BpeDefinition& definition) {
  return SideTokens(folder, definition).read();
}

}  // namespace qgrpo::tokenizer
