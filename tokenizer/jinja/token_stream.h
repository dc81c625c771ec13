#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "model/ops/error.h"
#include "tokenizer/jinja/lexer.h"

namespace qgrpo::tokenizer::jinja {

[[noreturn]] inline void parse_error(int line, const std::string& problem) {
  fail("line {}: {}", line, problem);
}

inline constexpr int kMaxDepth = 200;  // of tags and expressions in each other

// The tokens of a template, one after the other. All errors begin with "line N: ".
class TokenStream {
 public:
  explicit TokenStream(std::string_view source) : tokens_(tokenize(source)) {}

  const Token& now() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  void step() {
    if (at_ + 1 < tokens_.size()) ++at_;
  }
  bool is_name(std::string_view text) const {
    return now().type == TokenType::kName && now().text == text;
  }
  bool is_operator(std::string_view text) const {
    return now().type == TokenType::kOperator && now().text == text;
  }
  bool skip_name(std::string_view text) {
    const bool found = is_name(text);
    if (found) step();
    return found;
  }
  bool skip_operator(std::string_view text) {
    const bool found = is_operator(text);
    if (found) step();
    return found;
  }
  void expect_operator(std::string_view text) {
    if (!skip_operator(text)) {
      expected(fmt::format("'{}'", text));
    }
  }
  std::string expect_name() {
    if (now().type != TokenType::kName) {
      expected("a name");
    }
    std::string name = now().text;
    step();
    return name;
  }
  void expect(TokenType type, std::string_view text) {
    if (now().type != type) {
      expected(fmt::format("'{}'", text));
    }
    step();
  }
  [[noreturn]] void expected(const std::string& what) const {
    parse_error(now().line, fmt::format("found {}, expected {}", describe(now()), what));
  }

  // Guards recursion.
  class Nested {
   public:
    explicit Nested(TokenStream& tokens) : depth_(tokens.depth_) {
      if (++depth_ > kMaxDepth) {
        parse_error(tokens.now().line, fmt::format("nested more than {} deep", kMaxDepth));
      }
    }
    ~Nested() { --depth_; }

   private:
    int& depth_;
  };

 private:
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace qgrpo::tokenizer::jinja
