#pragma once

#include <string>
#include <utility>
#include <vector>

#include "train/reward/math_node.h"
#include "train/reward/math_token.h"

// The parser behind parse_math().
namespace qgrpo::train {

// Thrown by the parser, and caught in parse_math(), where the tokens are no mathematics.
struct NoMath {};

inline MathNode make_node(MathKind kind, std::vector<MathNode> children, std::string text = {}) {
  return {kind, std::move(text), std::move(children)};
}

// Recursive descent, loosest first:
//   list     = relation {"," relation}
//   relation = union {sign union}
//   union    = ratio {("\cup" | "\cap") ratio}
//   ratio    = sum {":" sum}
//   sum      = [sign] product {("+" | "-" | "\pm") product}
//   product  = factor {["*" | "/"] factor}
//   factor   = {"-" | "+"} postfix
//   postfix  = atom {"^" argument | "!" | "%" | degree}
class MathParser {
 public:
  explicit MathParser(std::vector<MathToken> tokens) : tokens_(std::move(tokens)) {}

  MathNode all();

 private:
  struct Deeper {
    explicit Deeper(MathParser& p);
    ~Deeper() { --parser.depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;
    MathParser& parser;
  };

  [[nodiscard]] Tok kind(std::size_t ahead = 0) const {
    return at_ + ahead < tokens_.size() ? tokens_[at_ + ahead].kind : Tok::stop;
  }
  [[nodiscard]] const std::string& text(std::size_t ahead = 0) const {
    return tokens_[at_ + ahead].text;
  }
  bool take(Tok wanted) {
    if (kind() != wanted) return false;
    ++at_;
    return true;
  }
  void expect(Tok wanted) {
    if (!take(wanted)) throw NoMath();
  }

  MathNode list();
  MathNode relation();
  MathNode unite();
  MathNode ratio();
  MathNode sum();
  // Whether a factor may begin here without a sign of multiplication before it.
  [[nodiscard]] bool begins_factor() const;
  MathNode product();
  MathNode factor();
  MathNode postfix();
  // 2^3^2 is 2^(3^2).
  MathNode exponent();
  // What ^, \frac or \sqrt takes: a group, else one token; of a number one digit where `digit`.
  MathNode argument(bool digit);
  MathNode closed(Tok close);
  MathNode atom();
  MathNode number_atom();
  static bool below_one(const MathNode& a, const MathNode& b);
  static MathNode fraction(MathNode a, MathNode b);
  MathNode symbol(std::string name);
  // Two or three letters side by side are a product, more a word.
  MathNode word();
  MathNode function();
  // log_2 8, \sin^2 x, \tan^{-1} 1
  MathNode named_function(std::string name);
  // (...), {...} or the factors up to the next function or sign.
  MathNode function_argument();
  MathNode bracket();
  MathNode set();
  MathNode matrix();
  std::vector<MathToken> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
  int bars_ = 0;  // of an absolute value that is open
};

}  // namespace qgrpo::train
