#include <algorithm>
#include <array>

#include "train/data/python_text.h"
#include "train/reward/math_answer.h"
#include "train/reward/math_lexer.h"
#include "train/reward/math_parse.h"
#include "train/reward/math_units.h"

// Expressions inside prose.
namespace qgrpo::train {
namespace {

using Tokens = std::span<const MathToken>;

constexpr auto kCurrencyCodes = std::to_array<std::string_view>(
    {"USD", "EUR", "GBP", "JPY", "CNY", "INR", "AUD", "CAD", "CHF", "Rs", "RM"});

bool is_operator(Tok kind) {
  switch (kind) {
    case Tok::plus:
    case Tok::minus:
    case Tok::plus_minus:
    case Tok::minus_plus:
    case Tok::times:
    case Tok::divide:
    case Tok::power:
    case Tok::sub:
    case Tok::equal:
    case Tok::less:
    case Tok::greater:
    case Tok::less_equal:
    case Tok::greater_equal:
    case Tok::not_equal:
    case Tok::member:
    case Tok::unite:
    case Tok::intersect:
      return true;
    default:
      return false;
  }
}

bool opens(Tok kind) {
  return kind == Tok::open || kind == Tok::set_open || kind == Tok::group_open ||
         kind == Tok::floor_open || kind == Tok::ceil_open;
}

bool closes(Tok kind) {
  return kind == Tok::close || kind == Tok::set_close || kind == Tok::group_close ||
         kind == Tok::floor_close || kind == Tok::ceil_close;
}

// Finds the last run of tokens with a number in it that no word or stop divides.
class Spans {
 public:
  explicit Spans(Tokens tokens) : tokens_(tokens) {}

  Tokens last() {
    while (at_ < tokens_.size()) step();
    finish(at_);
    return trimmed(best_begin_, best_end_);
  }

 private:
  [[nodiscard]] Tok kind(std::size_t i) const {
    return i < tokens_.size() ? tokens_[i].kind : Tok::line;
  }
  [[nodiscard]] bool spaced(std::size_t i) const {
    return i >= tokens_.size() || tokens_[i].spaced;
  }
  [[nodiscard]] bool empty() const { return begin_ == at_; }

  void finish(std::size_t end) {
    if (has_number_) {
      best_begin_ = begin_;
      best_end_ = end;
    }
    has_number_ = false;
    depth_ = 0;
  }

  // Ends the run before at_ and goes on behind `next`.
  void divide(std::size_t next) {
    finish(at_);
    at_ = next;
    begin_ = next;
  }

  void take(std::size_t count = 1) { at_ += count; }

  void step() {
    const MathToken& t = tokens_[at_];
    switch (t.kind) {
      case Tok::line:
      case Tok::stop:
      case Tok::row:
      case Tok::ampersand:
        return divide(at_ + 1);
      case Tok::other:
        return t.text.empty() ? divide(at_ + 1) : take();
      case Tok::comma:
        return depth_ > 0 || between_digits() ? take() : divide(at_ + 1);
      case Tok::colon:
        if (!empty() && kind(at_ - 1) == Tok::number && kind(at_ + 1) == Tok::number && !t.spaced &&
            !spaced(at_ + 1))
          return take();
        return divide(at_ + 1);
      case Tok::number:
        return number();
      case Tok::letter:
        return letter();
      case Tok::word:
      case Tok::text:
        return word();
      default:
        break;
    }
    if (opens(t.kind)) ++depth_;
    if (closes(t.kind)) depth_ = std::max(depth_ - 1, 0);
    take();
  }

  // 12:00 and 1,4 without spaces.
  [[nodiscard]] bool between_digits() const {
    return !empty() && kind(at_ - 1) == Tok::number && kind(at_ + 1) == Tok::number &&
           !spaced(at_) && !spaced(at_ + 1);
  }

  void number() {
    if (!empty() && kind(at_ - 1) == Tok::number && !mixed() && !argument()) divide(at_);
    has_number_ = true;
    take();
  }

  // The 2 of \log_2 8, x^2 8 and \sqrt2 3 before at_.
  [[nodiscard]] bool argument() const {
    if (at_ < begin_ + 2) return false;
    const Tok before = kind(at_ - 2);
    return before == Tok::sub || before == Tok::power || before == Tok::function;
  }

  // 1 1/2
  [[nodiscard]] bool mixed() const {
    return kind(at_ + 1) == Tok::divide && kind(at_ + 2) == Tok::number;
  }

  // x2 and B12 are words with their digits, unless they go on with an expression.
  void letter() {
    const bool goes_on = is_operator(kind(at_ + 1)) || (opens(kind(at_ + 1)) && !spaced(at_ + 1)) ||
                         kind(at_ + 1) == Tok::factorial;
    const bool joined = !empty() && (!spaced(at_) || is_operator(kind(at_ - 1)));
    if (tokens_[at_].text.size() > 1 || joined) return take();
    if (kind(at_ + 1) == Tok::number && !spaced(at_ + 1)) return divide(at_ + 2);
    if (!empty() && is_unit_at(tokens_, at_)) {
      const std::size_t end = unit_end(tokens_, at_);
      if (!is_operator(kind(end))) return divide(end);
    }
    if (goes_on) return take();
    divide(at_ + 1);
  }

  // A unit inside an expression (5 km + 3 km = 8 km) stays in it; another word divides.
  void word() {
    const MathToken& t = tokens_[at_];
    if (!empty() && is_multiplier(t)) return take();
    if (!empty() && is_unit_at(tokens_, at_)) {
      const std::size_t end = unit_end(tokens_, at_);
      const bool goes_on = is_operator(kind(end)) || closes(kind(end)) || kind(end) == Tok::percent;
      if (goes_on) return take(end - at_);
      return divide(end);
    }
    if (!empty() && !t.spaced && t.kind == Tok::word && kind(at_ - 1) == Tok::number &&
        t.text.size() <= 3)
      return take();  // 2xy
    const bool currency =
        std::find(kCurrencyCodes.begin(), kCurrencyCodes.end(), t.text) != kCurrencyCodes.end();
    const bool digits = kind(at_ + 1) == Tok::number && !spaced(at_ + 1) && !currency;
    divide(at_ + (digits ? 2 : 1));
  }

  // Without what cannot begin or end an expression: marks of emphasis, signs of a sentence, half
  // of a bracket.
  [[nodiscard]] Tokens trimmed(std::size_t begin, std::size_t end) const {
    if (end - begin > kMostExpression) return {};  // what follows is quadratic
    for (bool more = true; more && begin < end;) {
      more = false;
      const Tok first = kind(begin);
      const Tok last = kind(end - 1);
      if (drops_first(begin, end) || (opens(first) && !closed_inside(begin, end))) {
        ++begin;
        more = true;
      } else if (is_operator(last) || last == Tok::comma || last == Tok::colon ||
                 (opens(last) && last != Tok::group_open) || last == Tok::factorial ||
                 last == Tok::currency || (closes(last) && !opened_inside(begin, end)) ||
                 (last == Tok::bar &&
                  std::count_if(tokens_.begin() + static_cast<std::ptrdiff_t>(begin),
                                tokens_.begin() + static_cast<std::ptrdiff_t>(end),
                                [](const MathToken& t) { return t.kind == Tok::bar; }) %
                          2 ==
                      1)) {
        --end;
        more = true;
      }
    }
    return tokens_.subspan(begin, end - begin);
  }

  [[nodiscard]] bool drops_first(std::size_t begin, std::size_t end) const {
    const Tok first = kind(begin);
    if (first == Tok::minus) {
      // A dash or a hyphen behind a word, and a bullet.
      const bool dash = begin + 1 < end && spaced(begin + 1);
      const bool hyphen = begin > 0 && !spaced(begin) && kind(begin - 1) == Tok::word;
      return dash || hyphen;
    }
    return (is_operator(first) && first != Tok::plus_minus && first != Tok::minus_plus) ||
           closes(first) || first == Tok::comma || first == Tok::percent ||
           first == Tok::currency || first == Tok::factorial || first == Tok::degree;
  }

  [[nodiscard]] bool closed_inside(std::size_t begin, std::size_t end) const {
    int depth = 0;
    for (std::size_t i = begin; i < end; ++i) {
      depth += opens(kind(i)) ? 1 : closes(kind(i)) ? -1 : 0;
      if (depth == 0) return true;
    }
    return false;
  }

  [[nodiscard]] bool opened_inside(std::size_t begin, std::size_t end) const {
    int depth = 0;
    for (std::size_t i = end; i-- > begin;) {
      depth += closes(kind(i)) ? 1 : opens(kind(i)) ? -1 : 0;
      if (depth == 0) return true;
    }
    return false;
  }

  Tokens tokens_;
  std::size_t at_ = 0;
  std::size_t begin_ = 0;
  std::size_t best_begin_ = 0;
  std::size_t best_end_ = 0;
  int depth_ = 0;
  bool has_number_ = false;
};

MathAnswer answer_of(std::string_view text, Tokens tokens) {
  if (tokens.empty()) return {};
  const std::size_t begin = tokens.front().begin;
  text = python_strip(text.substr(begin, tokens.back().end - begin));
  if (text.size() > kMostExpression) return {};
  return {std::string(text), parse_math(tokens)};
}

}  // namespace

MathAnswer whole_expression(std::string_view text) {
  text = python_strip(text);
  if (text.size() > kMostExpression) return {};
  MathAnswer out{std::string(text), std::nullopt};
  const std::vector<MathToken> tokens = math_tokens(text);
  const auto is_line = [](const MathToken& t) { return t.kind == Tok::line; };
  if (std::any_of(tokens.begin(), tokens.end(), is_line)) return out;
  const std::vector<MathToken> kept = without_units(tokens);
  const auto is_word = [](const MathToken& t) {
    return t.kind == Tok::word || t.kind == Tok::text || t.kind == Tok::other;
  };
  if (std::any_of(kept.begin(), kept.end(), is_word)) return out;
  out.node = parse_math(tokens);
  return out;
}

MathAnswer last_number_expression(std::string_view text) {
  MathAnswer whole = whole_expression(text);
  const std::vector<MathToken> tokens = math_tokens(text);
  const auto is_number = [](const MathToken& t) { return t.kind == Tok::number; };
  if (whole.node && std::any_of(tokens.begin(), tokens.end(), is_number)) return whole;
  const Tokens span = Spans(tokens).last();
  return answer_of(text, span);
}

}  // namespace qgrpo::train
