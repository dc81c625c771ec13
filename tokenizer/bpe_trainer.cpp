#include "tokenizer/bpe_trainer.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <queue>
#include <unordered_map>

#include "model/io/file.h"
#include "model/io/json.h"
#include "model/ops/error.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/normalizer.h"

namespace qgrpo::tokenizer {
namespace {

using Pair = std::pair<std::int32_t, std::int32_t>;

struct Word {
  std::vector<std::int32_t> ids;
  std::int64_t count;
};

// The different words of the texts, each with its number of occurrences, sorted by their bytes.
std::map<std::string, std::int64_t> count_words(std::span<const std::string> texts,
                                                const AddedTokenMatcher& specials) {
  const PreTokenizer pretokenizer(kQwen2Pattern, "Qwen2's pattern");
  PreTokenizer::Match match(pretokenizer);
  std::map<std::string, std::int64_t> words;
  std::string storage;
  for (const auto& text : texts) {
    require(utf8::is_valid(text), "a text to train the tokenizer on is not well-formed UTF-8");
    specials.split(
        text, false,
        [&](std::string_view piece) {
          const auto normal = normalize_nfc(piece, storage);
          pretokenizer.split(normal, match, [&](std::size_t begin, std::size_t end) {
            ++words[std::string(normal.substr(begin, end - begin))];
          });
        },
        [](std::int32_t) {});
  }
  return words;
}

// Counts of neighbouring pairs, kept up to date while words are merged.
class PairCounts {
 public:
  explicit PairCounts(std::vector<Word> words) : words_(std::move(words)) {
    for (std::size_t i = 0; i < words_.size(); ++i) {
      const auto& ids = words_[i].ids;
      for (std::size_t k = 0; k + 1 < ids.size(); ++k) add({ids[k], ids[k + 1]}, i);
    }
    for (const auto& [pair, entry] : pairs_) queue_.push({entry.count, pair});
  }

  // The most frequent pair that occurs at least twice.
  std::optional<Pair> best() {
    while (!queue_.empty()) {
      const Candidate top = queue_.top();
      const std::int64_t now = pairs_[top.pair].count;
      if (now == top.count && now >= 2) return top.pair;
      queue_.pop();
      if (now < top.count && now >= 2) queue_.push({now, top.pair});  // it was out of date
    }
    return std::nullopt;
  }

  // Replaces the pair by `result` in all words, from left to right.
  void merge(Pair pair, std::int32_t result) {
    std::vector<std::size_t> where = std::move(pairs_[pair].words);
    std::sort(where.begin(), where.end());
    where.erase(std::unique(where.begin(), where.end()), where.end());
    std::vector<Pair> grown;
    for (const std::size_t index : where) {
      auto& word = words_[index];
      std::vector<std::int32_t> merged;
      for (std::size_t k = 0; k < word.ids.size(); ++k) {
        const bool here =
            k + 1 < word.ids.size() && word.ids[k] == pair.first && word.ids[k + 1] == pair.second;
        merged.push_back(here ? result : word.ids[k]);
        if (here) ++k;
      }
      for (std::size_t k = 0; k + 1 < word.ids.size(); ++k) {
        pairs_[{word.ids[k], word.ids[k + 1]}].count -= word.count;
      }
      word.ids = std::move(merged);
      for (std::size_t k = 0; k + 1 < word.ids.size(); ++k) {
        const Pair now = {word.ids[k], word.ids[k + 1]};
        if (now.first == result || now.second == result) {
          add(now, index);
          grown.push_back(now);
        } else {
          pairs_[now].count += word.count;
        }
      }
    }
    for (const Pair& now : grown) queue_.push({pairs_[now].count, now});
  }

 private:
  struct Entry {
    std::int64_t count = 0;
    std::vector<std::size_t> words;  // that have or had the pair; may repeat
  };
  struct Candidate {
    std::int64_t count;
    Pair pair;
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };

  void add(Pair pair, std::size_t word) {
    Entry& entry = pairs_[pair];
    entry.count += words_[word].count;
    entry.words.push_back(word);
  }

  std::vector<Word> words_;
  std::map<Pair, Entry> pairs_;
  std::priority_queue<Candidate> queue_;
};

}  // namespace

BpeDefinition train_bpe(std::span<const std::string> texts, int vocab_size,
                        const std::vector<std::string>& special_tokens) {
  const std::size_t fixed = 256 + special_tokens.size();
  require(vocab_size >= 0 && static_cast<std::size_t>(vocab_size) >= fixed,
          "a vocabulary of {} tokens is too small: 256 bytes and {} special tokens need {}",
          vocab_size, special_tokens.size(), fixed);
  BpeDefinition definition;
  definition.where = "trained tokenizer";
  definition.pattern = kQwen2Pattern;

  std::vector<std::pair<char32_t, std::uint8_t>> alphabet;
  for (int byte = 0; byte < 256; ++byte) {
    const auto value = static_cast<std::uint8_t>(byte);
    alphabet.emplace_back(byte_to_character(value), value);
  }
  std::sort(alphabet.begin(), alphabet.end());
  std::vector<std::string> spelling;
  std::unordered_map<std::string, std::int32_t> ids;
  std::array<std::int32_t, 256> byte_ids;
  const auto add = [&](const std::string& token) {
    const auto [entry, is_new] = ids.emplace(token, static_cast<std::int32_t>(spelling.size()));
    if (is_new) spelling.push_back(token);
    return entry->second;
  };
  for (const auto& [character, byte] : alphabet) {
    std::string token;
    utf8::append(token, character);
    byte_ids[byte] = add(token);
  }

  AddedTokenMatcher specials;
  for (const auto& token : special_tokens) specials.add({.content = token, .special = true});
  std::vector<Word> words;
  for (const auto& [text, count] : count_words(texts, specials)) {
    Word word{{}, count};
    for (const char c : text) word.ids.push_back(byte_ids[static_cast<std::uint8_t>(c)]);
    words.push_back(std::move(word));
  }
  PairCounts counts(std::move(words));
  while (spelling.size() + special_tokens.size() < static_cast<std::size_t>(vocab_size)) {
    const auto pair = counts.best();
    if (!pair) break;
    const std::string left = spelling[pair->first];
    const std::string right = spelling[pair->second];
    definition.merges.emplace_back(left, right);
    counts.merge(*pair, add(left + right));
  }
  for (std::size_t id = 0; id < spelling.size(); ++id) {
    definition.vocab.emplace_back(spelling[id], static_cast<std::int32_t>(id));
  }
  for (const auto& token : special_tokens) {
    require(ids.find(token) == ids.end(), "the special token \"{}\" is an ordinary token", token);
    definition.added.push_back({.id = add(token), .content = token, .special = true});
  }
  return definition;
}

namespace {

void write_added_token(io::JsonWriter& json, const AddedToken& token, bool with_id) {
  json.begin_object();
  if (with_id) json.member("id", token.id);
  json.member("content", token.content);
  json.member("single_word", token.single_word);
  json.member("lstrip", token.lstrip);
  json.member("rstrip", token.rstrip);
  json.member("normalized", token.normalized);
  json.member("special", token.special);
  json.end_object();
}

void write_byte_level(io::JsonWriter& json) {
  json.begin_object();
  json.member("type", "ByteLevel");
  json.member("add_prefix_space", false);
  json.member("trim_offsets", false);
  json.member("use_regex", false);
  json.end_object();
}

std::string tokenizer_json(const BpeDefinition& definition) {
  io::JsonWriter json;
  json.begin_object();
  json.member("version", "1.0");
  json.key("truncation");
  json.null();
  json.key("padding");
  json.null();
  json.key("added_tokens");
  json.begin_array();
  for (const auto& token : definition.added) write_added_token(json, token, true);
  json.end_array();
  json.key("normalizer");
  if (definition.nfc) {
    json.begin_object();
    json.member("type", "NFC");
    json.end_object();
  } else {
    json.null();
  }
  json.key("pre_tokenizer");
  json.begin_object();
  json.member("type", "Sequence");
  json.key("pretokenizers");
  json.begin_array();
  if (!definition.pattern.empty()) {
    json.begin_object();
    json.member("type", "Split");
    json.key("pattern");
    json.begin_object();
    json.member("Regex", definition.pattern);
    json.end_object();
    json.member("behavior", "Isolated");
    json.member("invert", false);
    json.end_object();
  }
  write_byte_level(json);
  json.end_array();
  json.end_object();
  for (const char* key : {"post_processor", "decoder"}) {
    json.key(key);
    write_byte_level(json);
  }
  json.key("model");
  json.begin_object();
  json.member("type", "BPE");
  for (const char* key : {"dropout", "unk_token"}) {
    json.key(key);
    json.null();
  }
  json.member("continuing_subword_prefix", "");
  json.member("end_of_word_suffix", "");
  json.member("fuse_unk", false);
  json.member("byte_fallback", false);
  json.member("ignore_merges", definition.ignore_merges);
  json.key("vocab");
  json.begin_object();
  for (const auto& [token, id] : definition.vocab) json.member(token, id);
  json.end_object();
  json.key("merges");
  json.begin_array();
  for (const auto& [left, right] : definition.merges) json.value(left + " " + right);
  json.end_array();
  json.end_object();
  json.end_object();
  return json.str() + "\n";
}

std::string tokenizer_config_json(const BpeDefinition& definition, const TokenizerFiles& files) {
  io::JsonWriter json;
  json.begin_object();
  json.member("add_bos_token", false);
  json.member("add_prefix_space", false);
  json.key("added_tokens_decoder");
  json.begin_object();
  for (const auto& token : definition.added) {
    json.key(std::to_string(token.id));
    write_added_token(json, token, false);
  }
  json.end_object();
  json.key("bos_token");
  json.null();
  json.member("chat_template", chatml_jinja(files.default_system));
  json.member("clean_up_tokenization_spaces", false);
  json.member("eos_token", files.eos_token);
  json.member("errors", "replace");
  json.member("model_max_length", files.model_max_length);
  json.member("pad_token", files.pad_token);
  json.member("split_special_tokens", false);
  json.member("tokenizer_class", "Qwen2Tokenizer");
  json.key("unk_token");
  json.null();
  json.end_object();
  return json.str() + "\n";
}

}  // namespace

void write_tokenizer(const std::string& folder, const BpeDefinition& definition,
                     const TokenizerFiles& files) {
  require(definition.prefix.empty() && definition.suffix.empty(),
          "{}: begin- and end-of-text tokens cannot be written", definition.where);
  const auto path = [&](const char* name) {
    return (std::filesystem::path(folder) / name).string();
  };
  io::write_file_atomically(path("tokenizer.json"), tokenizer_json(definition));
  io::write_file_atomically(path("tokenizer_config.json"),
                            tokenizer_config_json(definition, files));
}

}  // namespace qgrpo::tokenizer
