#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qgrpo::tokenizer {

// The merges of byte-level BPE: a word starts as its bytes' tokens; as long as any two neighbours
// have a merge, the merge with the lowest rank (of equals the leftmost) joins its two.
class BpeMerges {
 public:
  struct Merge {
    std::int32_t left;
    std::int32_t right;
    std::int32_t result;
  };

  // `byte_ids`: the token of each byte, -1 where the vocabulary has none. `merges` in the order of
  // their ranks; of a pair that is listed twice the later one counts, as in Hugging Face.
  // `where` names the vocabulary in messages.
  BpeMerges(const std::array<std::int32_t, 256>& byte_ids, const std::vector<Merge>& merges,
            std::string where);

  // Working memory that is reused from word to word.
  struct Scratch {
    struct Candidate {
      std::uint32_t rank;
      std::uint32_t position;
      std::int32_t result;
    };
    std::vector<std::int32_t> ids;
    std::vector<std::uint32_t> ranks;
    std::vector<std::int32_t> results;
    std::vector<std::int32_t> next;
    std::vector<std::int32_t> previous;
    std::vector<Candidate> heap;
  };

  // Appends the tokens of one word. Throws Error where a byte has no token.
  // Time: quadratic for short words (the faster way there), n log n for long ones.
  void encode_word(std::string_view word, Scratch& scratch, std::vector<std::int32_t>& out) const;

 private:
  struct Slot {
    std::uint64_t pair;
    std::uint32_t rank;
    std::int32_t result;
  };

  // The pair's slot, or the empty slot where it would be.
  std::size_t slot_of(std::uint64_t pair) const;
  // The rank of the merge of (left, right), or kNoMerge.
  std::uint32_t find(std::int32_t left, std::int32_t right, std::int32_t& result) const;
  void merge_short(Scratch& scratch, std::vector<std::int32_t>& out) const;
  void merge_long(Scratch& scratch, std::vector<std::int32_t>& out) const;

  std::array<std::int32_t, 256> byte_ids_;
  std::vector<Slot> slots_;  // open addressing, at most half full
  int shift_ = 0;
  std::string where_;
};

// Words that were encoded before. Bounded: when it is full it is emptied.
class WordCache {
 public:
  WordCache();

  static constexpr std::size_t kLongestWord = 128;  // bytes; longer words are not kept

  // Appends the word's tokens to `out` and returns true if the word is known.
  // `hash` receives the word's hash, for insert().
  bool find(std::string_view word, std::uint64_t& hash, std::vector<std::int32_t>& out) const;
  void insert(std::string_view word, std::uint64_t hash, const std::int32_t* ids,
              std::size_t count);

 private:
  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t text = 0;  // offsets into texts_ and ids_
    std::uint32_t ids = 0;
    std::uint16_t length = 0;  // 0: empty
    std::uint16_t count = 0;
  };

  void clear();

  std::vector<Slot> slots_;
  std::vector<char> texts_;
  std::vector<std::int32_t> ids_;
  std::size_t words_ = 0;
};

}  // namespace qgrpo::tokenizer
