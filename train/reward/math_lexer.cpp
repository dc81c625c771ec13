#include "train/reward/math_lexer.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "train/data/python_text.h"
#include "train/reward/math_names.h"

namespace qgrpo::train {
namespace {

constexpr std::size_t kMostDigits = 4096;
constexpr std::size_t kMostText = 200;  // bytes in a \text{} or the name of an environment

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

class Lexer {
 public:
  Lexer(std::string_view text, int depth) : text_(text), depth_(depth) {}

  std::vector<MathToken> run() {
    while (at_ < text_.size()) {
      begin_ = at_;
      step();
    }
    return std::move(out_);
  }

 private:
  [[nodiscard]] std::string_view rest(std::size_t from) const {
    return from < text_.size() ? text_.substr(from) : std::string_view();
  }

  void emit(Tok kind, std::string_view text = {}) {
    // ^\circ and ^{\circ}, which come as power, degree.
    if (kind == Tok::degree && !out_.empty() && out_.back().kind == Tok::power) out_.pop_back();
    if (kind == Tok::open || kind == Tok::set_open) ++brackets_;
    if ((kind == Tok::close || kind == Tok::set_close) && brackets_ > 0) --brackets_;
    out_.push_back({kind, std::string(text), std::exchange(spaced_, false), begin_, at_});
  }

  // The digit at `at` and its length in bytes, full-width ones too; 0 where there is none.
  [[nodiscard]] std::size_t digit(std::size_t at, char& out) const {
    const std::string_view r = rest(at);
    if (!r.empty() && r[0] >= '0' && r[0] <= '9') return out = r[0], 1;
    if (r.size() >= 3 && r.starts_with("\xef\xbc") && r[2] >= '\x90' && r[2] <= '\x99')
      return out = static_cast<char>('0' + (r[2] - '\x90')), 3;
    return 0;
  }

  [[nodiscard]] std::size_t digits(std::size_t at, std::string& out) const {
    char c = 0;
    for (std::size_t n = digit(at, c); n > 0; n = digit(at, c)) {
      out += c;
      at += n;
    }
    return at;
  }

  [[nodiscard]] std::size_t separator(std::size_t at, bool first_zero) const {
    const std::string_view r = rest(at);
    for (const std::string_view mark :
         {"{,}\\!", "{,}", ",\\!", ",\\,", "\\,", "\\!", "\\ ", "\\;", "'", "\xc2\xa0",
          "\xe2\x80\xaf", "\xe2\x80\x89", "\xe2\x80\x99", " "}) {
      if (r.starts_with(mark)) return mark.size();
    }
    return r.starts_with(',') && brackets_ == 0 && !first_zero ? 1 : 0;
  }

  // The end of a group of three digits behind a thousands separator at `at`, or 0.
  [[nodiscard]] std::size_t thousands(std::size_t at, bool first_zero, std::string& group) const {
    const std::size_t length = separator(at, first_zero);
    if (length == 0) return 0;
    group.clear();
    std::size_t end = at + length;
    char c = 0;
    for (int i = 0; i < 3; ++i) {
      const std::size_t n = digit(end, c);
      if (n == 0) return 0;
      group += c;
      end += n;
    }
    return digit(end, c) > 0 ? 0 : end;
  }

  void number() {
    std::string value;
    std::size_t at = digits(at_, value);
    if (!value.empty() && value.size() <= 3) {
      const bool first_zero = value[0] == '0';
      std::string group;
      for (std::size_t end = thousands(at, first_zero, group); end > 0;
           end = thousands(at, first_zero, group)) {
        value += group;
        at = end;
      }
    }
    char c = 0;
    if (rest(at).starts_with('.') && (digit(at + 1, c) > 0 || repeating(at + 1))) {
      if (value.empty()) value = "0";
      value += '.';
      at = digits(at + 1, value);
      if (const auto repeat = repeating(at)) {
        value += "(" + std::string(repeat->first) + ")";
        at = repeat->second;
      }
    }
    if (rest(at).starts_with('e') || rest(at).starts_with('E')) {
      const std::string_view sign = rest(at + 1);
      const std::size_t skip = sign.starts_with('-') || sign.starts_with('+') ? 1 : 0;
      if (digit(at + 1 + skip, c) > 0) {
        value += sign.starts_with('-') ? "e-" : "e";
        at = digits(at + 1 + skip, value);
      }
    }
    at_ = at;
    emit(value.size() <= kMostDigits ? Tok::number : Tok::other, value);
  }

  // \overline{36} or \bar{6} at `at`: the digits and the end.
  [[nodiscard]] std::optional<std::pair<std::string_view, std::size_t>> repeating(
      std::size_t at) const {
    for (const std::string_view command : {"\\overline{", "\\bar{"}) {
      if (!rest(at).starts_with(command)) continue;
      const std::string_view inside = rest(at + command.size());
      const std::size_t end = inside.find_first_not_of("0123456789");
      if (end != std::string_view::npos && end > 0 && end <= 18 && inside[end] == '}')
        return std::pair(inside.substr(0, end), at + command.size() + end + 1);
    }
    return std::nullopt;
  }

  void step() {
    const std::string_view r = rest(at_);
    char c = 0;
    if (digit(at_, c) > 0 || (r[0] == '.' && digit(at_ + 1, c) > 0)) return number();
    if (is_letter(r[0])) return letters();
    if (r[0] == '\\') return command();
    if (const std::size_t bytes = leading_space_bytes(r); bytes > 0 && r[0] != '\n') {
      const std::size_t end = r.substr(0, bytes).find('\n');
      at_ += end == std::string_view::npos ? bytes : end;
      spaced_ = true;
      return;
    }
    if (r[0] == '~') return space(1);
    if (r.starts_with("**") && !out_.empty() && digit(at_ + 2, c) > 0 &&
        (out_.back().kind == Tok::number || out_.back().kind == Tok::close)) {
      at_ += 2;
      return emit(Tok::power);
    }
    for (const auto& [from, to] :
         {std::pair("<=", Tok::less_equal), std::pair(">=", Tok::greater_equal),
          std::pair("!=", Tok::not_equal)}) {
      if (!r.starts_with(from)) continue;
      at_ += 2;
      return emit(to);
    }
    character(r);
  }

  void space(std::size_t bytes) {
    spaced_ = true;
    at_ += bytes;
  }

  void character(std::string_view r) {
    if (const auto n = math_character(r)) {
      at_ += n->name.size();
      emit(n->kind, n->text);
      collapse_degree();
    } else if (const auto composite = math_composite(r)) {
      at_ += composite->name.size();
      inner(composite->text);
    } else {
      at_ += 1;
      emit(Tok::other);
    }
  }

  // The tokens of a text that stands for what was read last.
  void inner(std::string_view text) {
    std::vector<MathToken> tokens = Lexer(text, depth_ + 1).run();
    if (!tokens.empty()) tokens.front().spaced = std::exchange(spaced_, false);
    for (MathToken& t : tokens) {
      t.begin = begin_;
      t.end = at_;
      out_.push_back(std::move(t));
    }
  }

  // ^{\circ}: power, {, degree, } is one degree.
  void collapse_degree() {
    const std::size_t n = out_.size();
    if (n < 4 || out_[n - 1].kind != Tok::group_close || out_[n - 2].kind != Tok::degree ||
        out_[n - 3].kind != Tok::group_open || out_[n - 4].kind != Tok::power)
      return;
    const std::size_t begin = out_[n - 4].begin;
    out_.resize(n - 4);
    out_.push_back({Tok::degree, {}, false, begin, at_});
  }

  void letters() {
    std::size_t end = at_;
    while (end < text_.size() && is_letter(text_[end])) ++end;
    const std::string_view run = text_.substr(at_, end - at_);
    at_ = end;
    if (run.size() == 1) {
      const char c = static_cast<char>(run[0] | 0x20);
      const std::string_view r = rest(end);
      if ((c == 'a' || c == 'p') && (r.starts_with(".m") || r.starts_with(". m"))) {
        at_ += r[1] == ' ' ? 3 : 2;
        if (rest(at_).starts_with('.')) ++at_;
        return emit(Tok::word, c == 'a' ? "am" : "pm");
      }
      return emit(Tok::letter, run);
    }
    const std::string low = lower(run);
    if (const auto n = math_word(low)) return emit(n->kind, n->text);
    emit(Tok::word, run);
  }

  void command() {
    std::size_t end = at_ + 1;
    while (end < text_.size() && is_letter(text_[end])) ++end;
    if (end == at_ + 1) return symbol_command();
    const std::string_view name = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end;
    if (is_ignored_command(name)) return void(spaced_ = spaced_ || name == "quad");
    if (is_text_command(name)) return text_command();
    if (name == "begin" || name == "end")
      return environment(name == "begin" ? Tok::begin : Tok::end);
    if (const auto n = math_command(name)) return emit(n->kind, n->text);
    emit(Tok::other, name);
  }

  // A backslash before what is no letter.
  void symbol_command() {
    const char c = at_ + 1 < text_.size() ? text_[at_ + 1] : '\\';
    at_ += 2;
    switch (c) {
      case '\\':
        return emit(Tok::row);
      case '{':
        return emit(Tok::set_open);
      case '}':
        return emit(Tok::set_close);
      case '|':
        return emit(Tok::bar);
      case '$':
        return emit(Tok::currency);
      case '%':
        return emit(Tok::percent);
      case '!':
        return;
      case ',':
      case ':':
      case ';':
      case ' ':
      case '\n':
        spaced_ = true;
        return;
      case '(':
      case ')':
      case '[':
      case ']':
        return emit(Tok::other);
      default:
        return emit(Tok::other);
    }
  }

  // "{...}" behind a command, without its braces; braces inside are matched.
  std::optional<std::string_view> braced() {
    std::size_t at = at_;
    while (at < text_.size() && text_[at] == ' ') ++at;
    if (at >= text_.size() || text_[at] != '{') return std::nullopt;
    const std::size_t begin = at + 1;
    int depth = 0;
    for (; at < text_.size() && at < begin + kMostText; ++at) {
      depth += text_[at] == '{' ? 1 : text_[at] == '}' ? -1 : 0;
      if (depth > 0) continue;
      at_ = at + 1;
      return text_.substr(begin, at - begin);
    }
    return std::nullopt;
  }

  void text_command() {
    const auto inside = braced();
    if (!inside) return emit(Tok::other);
    const std::string_view content = python_strip(*inside);
    const std::string low = lower(content);
    if (content.empty()) return void(spaced_ = true);
    if (low == "and" || low == "or" || low == ", and" || low == ", or" || low == ",")
      return emit(Tok::comma);
    if (depth_ < 4 && (math_word(low) || content.size() == 1 ||
                       content.find_first_of("0123456789%") != std::string_view::npos)) {
      spaced_ = true;
      return inner(content);
    }
    emit(Tok::text, content);
  }

  void environment(Tok kind) {
    const auto name = braced();
    if (!name) return emit(Tok::other);
    if (kind == Tok::begin && *name == "array" && !braced()) return emit(Tok::other);
    emit(kind, *name);
  }

  std::string_view text_;
  int depth_;
  std::size_t at_ = 0;
  int brackets_ = 0;
  bool spaced_ = false;
  std::size_t begin_ = 0;  // of what is being read
  std::vector<MathToken> out_;
};

}  // namespace

std::vector<MathToken> math_tokens(std::string_view text) {
  return Lexer(text, 0).run();
}

}  // namespace qgrpo::train
