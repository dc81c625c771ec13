#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace qgrpo::tokenizer {

// The pre-tokenizer pattern of Qwen2, Qwen2.5 and Qwen3 (from the published tokenizer.json):
// English contractions, words with one leading non-letter, single digits, punctuation with its line
// breaks, runs of line breaks, and white space, of which the last one goes with the next word.
extern const char* const kQwen2Pattern;
// Llama 3's: numbers in groups of up to three digits.
extern const char* const kLlama3Pattern;
// The pattern of GPT-2, which Hugging Face's ByteLevel pre-tokenizer applies where use_regex is
// set.
extern const char* const kGpt2Pattern;

// Cuts text into the words inside which BPE merges happen: each match of a regular expression is a
// word, and so is the text between two matches (Hugging Face's Split with behaviour "Isolated").
//
// The expression is run by PCRE2 with its JIT compiler, with Unicode properties and case folding
// (so that (?i:'s) matches 's, 'S and 'ſ). `\s` means Unicode's White_Space, as in Oniguruma, which
// Hugging Face uses: PCRE2's own \s also has U+180E.
class PreTokenizer {
 public:
  // Throws Error, naming `where`, if PCRE2 does not accept the pattern.
  PreTokenizer(const std::string& pattern, const std::string& where);
  ~PreTokenizer();
  PreTokenizer(const PreTokenizer&) = delete;
  PreTokenizer& operator=(const PreTokenizer&) = delete;

  // The memory of one running search; each thread needs its own.
  class Match {
   public:
    explicit Match(const PreTokenizer& owner);
    ~Match();
    Match(const Match&) = delete;
    Match& operator=(const Match&) = delete;

   private:
    friend class PreTokenizer;
    struct State;
    std::unique_ptr<State> state_;
  };

  // Calls word(begin, end), byte offsets, for each word of well-formed UTF-8 `text`, left to right;
  // together the words are the text.
  template <typename Function>
  void split(std::string_view text, Match& match, Function&& word) const {
    std::size_t done = 0;  // everything before is in a word
    std::size_t begin = 0;
    std::size_t end = 0;
    while (find(text, done, match, begin, end)) {
      if (begin > done) word(done, begin);
      word(begin, end);
      done = end;
    }
    if (done < text.size()) word(done, text.size());
  }

 private:
  // The first non-empty match at or after `from`.
  bool find(std::string_view text, std::size_t from, Match& match, std::size_t& begin,
            std::size_t& end) const;

  struct Program;
  std::unique_ptr<Program> program_;
  std::string where_;
};

}  // namespace qgrpo::tokenizer
