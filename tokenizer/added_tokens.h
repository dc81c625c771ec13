#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qgrpo::tokenizer {

// A token outside the BPE vocabulary's merges that is recognised in text as a whole.
struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool special = false;      // left out by skip_special_tokens
  bool normalized = false;   // looked for after normalisation instead of before
  bool lstrip = false;       // takes the white space on its left with it
  bool rstrip = false;       // ... on its right
  bool single_word = false;  // only where no word character touches it
};

// Finds added tokens in text: leftmost, of those the longest, as Hugging Face does.
class AddedTokenMatcher {
 public:
  void add(const AddedToken& token);
  bool empty() const { return tokens_.empty(); }

  // Calls text(piece) for what is between tokens (never empty) and token(id) for each token, from
  // left to right. Special tokens are passed over as text where `skip_special` is set.
  template <typename Text, typename Token>
  void split(std::string_view input, bool skip_special, Text&& text, Token&& token) const {
    std::size_t done = 0;
    Found found;
    for (std::size_t from = 0; find(input, from, done, skip_special, found); from = found.resume) {
      if (found.begin > done) text(input.substr(done, found.begin - done));
      token(found.id);
      done = found.end;
    }
    if (done < input.size()) text(input.substr(done));
  }

 private:
  struct Node {
    std::int32_t token = -1;  // index into tokens_
    std::vector<std::pair<unsigned char, std::int32_t>> children;
  };
  struct Found {
    std::size_t begin;
    std::size_t end;
    std::size_t resume;
    std::int32_t id;
  };

  bool find(std::string_view input, std::size_t from, std::size_t done, bool skip_special,
            Found& found) const;
  std::int32_t child(std::int32_t node, unsigned char byte) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_{1};
  bool starts_[256] = {};  // bytes that any token begins with
};

}  // namespace qgrpo::tokenizer
