#include "tokenizer/bpe_tokenizer.h"

#include <algorithm>

#include "model/ops/error.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/normalizer.h"

namespace qgrpo::tokenizer {
namespace {

// Ids are places in a table: one that is far above all vocabularies, and above the number of this
// one's tokens, is a damaged file's.
constexpr std::size_t kMostIds = 1 << 20;
constexpr std::size_t kMostIdsPerToken = 4;

}  // namespace

BpeTokenizer::Workspace::Workspace(const PreTokenizer* pretokenizer) {
  if (pretokenizer != nullptr) match = std::make_unique<PreTokenizer::Match>(*pretokenizer);
}

BpeTokenizer::BpeTokenizer(const BpeDefinition& definition)
    : where_(definition.where),
      nfc_(definition.nfc),
      ignore_merges_(definition.ignore_merges),
      prefix_(definition.prefix),
      suffix_(definition.suffix) {
  require(!definition.vocab.empty(), "{}: the vocabulary is empty", where_);
  std::int32_t highest = 0;
  const std::size_t count = definition.vocab.size() + definition.added.size();
  const std::size_t most = std::max(kMostIds, kMostIdsPerToken * count);
  const auto see = [&](const std::string& spelling, std::int32_t id) {
    require(id < 0 || static_cast<std::size_t>(id) < most,
            "{}: token \"{}\" has the id {}, which is too high for {} tokens (at most {})", where_,
            spelling, id, count, most - 1);
    highest = std::max(highest, id);
  };
  for (const auto& [spelling, id] : definition.vocab) see(spelling, id);
  for (const auto& token : definition.added) see(token.content, token.id);
  tokens_.resize(static_cast<std::size_t>(highest) + 1);
  ids_.reserve(tokens_.size());

  for (const auto& [spelling, id] : definition.vocab) add_token(id, spelling);
  for (AddedToken token : definition.added) {
    // A token that the vocabulary has too keeps the vocabulary's id, as in Hugging Face.
    if (const auto known = ids_.find(token.content); known != ids_.end()) {
      token.id = known->second;
    } else {
      add_token(token.id, token.content);
    }
    tokens_[token.id].special |= token.special;
    if (token.normalized && nfc_) {
      std::string storage;
      token.content = std::string(normalize_nfc(token.content, storage));
    }
    (token.normalized ? normalized_added_ : raw_added_).add(token);
  }
  for (const auto& ids : {prefix_, suffix_}) {
    for (const std::int32_t id : ids) {
      require(id_to_token(id).has_value(), "{}: the post-processor adds id {}, which is no token",
              where_, id);
    }
  }
  if (!definition.pattern.empty()) {
    pretokenizer_ = std::make_unique<PreTokenizer>(definition.pattern, where_);
  }
  merges_ = std::make_unique<BpeMerges>(build_merges(definition));
}

void BpeTokenizer::add_token(std::int32_t id, const std::string& spelling) {
  require(id >= 0, "{}: token \"{}\" has the negative id {}", where_, spelling, id);
  require(utf8::is_valid(spelling), "{}: the token with id {} is not UTF-8", where_, id);
  Token& token = tokens_[id];
  require(!token.used, "{}: tokens \"{}\" and \"{}\" have the same id {}", where_, token.spelling,
          spelling, id);
  token.used = true;
  token.spelling = spelling;
  token.bytes = from_byte_level(spelling);
  const bool is_new = ids_.emplace(token.spelling, id).second;
  require(is_new, "{}: token \"{}\" is listed twice", where_, spelling);
}

BpeMerges BpeTokenizer::build_merges(const BpeDefinition& definition) const {
  std::array<std::int32_t, 256> byte_ids;
  for (int byte = 0; byte < 256; ++byte) {
    std::string spelling;
    utf8::append(spelling, byte_to_character(static_cast<std::uint8_t>(byte)));
    const auto known = ids_.find(spelling);
    byte_ids[byte] = known == ids_.end() ? -1 : known->second;
  }
  std::vector<BpeMerges::Merge> merges;
  merges.reserve(definition.merges.size());
  const auto id_of = [&](const std::string& token, std::size_t rank) {
    const auto known = ids_.find(token);
    require(known != ids_.end(), "{}: merge {} needs the token \"{}\", which the vocabulary lacks",
            where_, rank, token);
    return known->second;
  };
  for (std::size_t rank = 0; rank < definition.merges.size(); ++rank) {
    const auto& [left, right] = definition.merges[rank];
    merges.push_back({id_of(left, rank), id_of(right, rank), id_of(left + right, rank)});
  }
  return BpeMerges(byte_ids, merges, where_);
}

std::unique_ptr<BpeTokenizer::Workspace> BpeTokenizer::take_workspace() const {
  {
    const std::lock_guard lock(workspaces_mutex_);
    if (!workspaces_.empty()) {
      auto work = std::move(workspaces_.back());
      workspaces_.pop_back();
      return work;
    }
  }
  return std::make_unique<Workspace>(pretokenizer_.get());
}

std::vector<std::int32_t> BpeTokenizer::encode(std::string_view text, SpecialText special,
                                               TokensAround around) const {
  require(utf8::is_valid(text), "the text to encode is not well-formed UTF-8");
  const bool plain = special == SpecialText::kPlain;
  auto work = take_workspace();
  const bool whole = around == TokensAround::kAdd;
  std::vector<std::int32_t> out;
  if (whole) out = prefix_;
  out.reserve(text.size() / 3 + prefix_.size() + suffix_.size());
  raw_added_.split(
      text, plain, [&](std::string_view piece) { encode_text(piece, plain, *work, out); },
      [&](std::int32_t id) { out.push_back(id); });
  if (whole) out.insert(out.end(), suffix_.begin(), suffix_.end());
  const std::lock_guard lock(workspaces_mutex_);
  workspaces_.push_back(std::move(work));
  return out;
}

void BpeTokenizer::encode_text(std::string_view text, bool plain, Workspace& work,
                               std::vector<std::int32_t>& out) const {
  if (nfc_) text = normalize_nfc(text, work.normalized);
  normalized_added_.split(
      text, plain, [&](std::string_view piece) { encode_words(piece, work, out); },
      [&](std::int32_t id) { out.push_back(id); });
}

void BpeTokenizer::encode_words(std::string_view text, Workspace& work,
                                std::vector<std::int32_t>& out) const {
  if (!pretokenizer_) {
    encode_word(text, work, out);
    return;
  }
  pretokenizer_->split(text, *work.match, [&](std::size_t begin, std::size_t end) {
    encode_word(text.substr(begin, end - begin), work, out);
  });
}

void BpeTokenizer::encode_word(std::string_view word, Workspace& work,
                               std::vector<std::int32_t>& out) const {
  const bool cached = word.size() <= WordCache::kLongestWord;
  std::uint64_t hash = 0;
  if (cached && work.cache.find(word, hash, out)) return;
  const std::size_t before = out.size();
  if (ignore_merges_) {
    if (const auto known = ids_.find(to_byte_level(word)); known != ids_.end()) {
      out.push_back(known->second);
    }
  }
  if (out.size() == before) merges_->encode_word(word, work.scratch, out);
  if (cached) work.cache.insert(word, hash, out.data() + before, out.size() - before);
}

std::optional<std::int32_t> BpeTokenizer::token_to_id(std::string_view token) const {
  const auto known = ids_.find(token);
  if (known == ids_.end()) return std::nullopt;
  return known->second;
}

std::optional<std::string> BpeTokenizer::id_to_token(std::int32_t id) const {
  if (id < 0 || id >= vocab_size() || !tokens_[id].used) {
    return std::nullopt;
  }
  return tokens_[id].spelling;
}

bool BpeTokenizer::is_special(std::int32_t id) const {
  return id >= 0 && id < vocab_size() && tokens_[id].special;
}

void BpeTokenizer::append_token_bytes(std::int32_t id, bool&, std::string& out) const {
  require(id >= 0 && id < vocab_size(), "id {} is not in the vocabulary of {} ids (0 to {})", id,
          vocab_size(), vocab_size() - 1);
  const Token& token = tokens_[id];
  require(token.used, "id {} is unused in {}", id, where_);
  out += token.bytes;
}

}  // namespace qgrpo::tokenizer
