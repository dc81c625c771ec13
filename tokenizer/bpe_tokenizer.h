#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/tokenizer.h"

namespace qgrpo::tokenizer {

// A byte-level BPE tokenizer as its files describe it.
struct BpeDefinition {
  std::string where;                                        // the file, for messages
  std::vector<std::pair<std::string, std::int32_t>> vocab;  // byte-level spelling, id
  std::vector<std::pair<std::string, std::string>> merges;  // in the order of rank
  std::vector<AddedToken> added;
  bool nfc = true;                   // normalise to NFC
  std::string pattern;               // cuts the text into words; empty: the whole text is one word
  bool ignore_merges = false;        // a word that is in the vocabulary is that token
  std::vector<std::int32_t> prefix;  // put before every text (begin of text), and behind it
  std::vector<std::int32_t> suffix;
};

class BpeTokenizer : public Tokenizer {
 public:
  // Throws Error where the definition contradicts itself.
  explicit BpeTokenizer(const BpeDefinition& definition);

  std::vector<std::int32_t> encode(std::string_view text, SpecialText special,
                                   TokensAround around) const override;
  std::int32_t vocab_size() const override { return static_cast<std::int32_t>(tokens_.size()); }
  std::optional<std::int32_t> token_to_id(std::string_view token) const override;
  std::optional<std::string> id_to_token(std::int32_t id) const override;
  bool is_special(std::int32_t id) const override;
  void append_token_bytes(std::int32_t id, bool& at_start, std::string& out) const override;

 private:
  struct Token {
    std::string spelling;
    std::string bytes;
    bool used = false;
    bool special = false;
  };
  // What one encode() call works with; kept for the next call, with its cache of words.
  struct Workspace {
    explicit Workspace(const PreTokenizer* pretokenizer);
    std::unique_ptr<PreTokenizer::Match> match;
    BpeMerges::Scratch scratch;
    WordCache cache;
    std::string normalized;
  };

  void add_token(std::int32_t id, const std::string& spelling);
  BpeMerges build_merges(const BpeDefinition& definition) const;
  std::unique_ptr<Workspace> take_workspace() const;
  void encode_text(std::string_view text, bool plain, Workspace& work,
                   std::vector<std::int32_t>& out) const;
  void encode_words(std::string_view text, Workspace& work, std::vector<std::int32_t>& out) const;
  void encode_word(std::string_view word, Workspace& work, std::vector<std::int32_t>& out) const;

  std::string where_;
  bool nfc_;
  bool ignore_merges_;
  std::vector<std::int32_t> prefix_;
  std::vector<std::int32_t> suffix_;
  std::vector<Token> tokens_;                               // by id
  std::unordered_map<std::string_view, std::int32_t> ids_;  // views of tokens_' spellings
  AddedTokenMatcher raw_added_;                             // looked for before normalisation
  AddedTokenMatcher normalized_added_;                      // ... and after it
  std::unique_ptr<PreTokenizer> pretokenizer_;
  std::unique_ptr<BpeMerges> merges_;
  mutable std::mutex workspaces_mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> workspaces_;
};

// Parts of load_tokenizer() (tokenizer.h).
BpeDefinition read_tokenizer_json(const std::string& folder);
BpeDefinition read_vocab_and_merges(const std::string& folder);

}  // namespace qgrpo::tokenizer
