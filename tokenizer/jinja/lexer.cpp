#include "tokenizer/jinja/lexer.h"

#include <algorithm>
#include <array>

#include "model/io/utf8.h"
#include "model/ops/error.h"
#include "tokenizer/jinja/text.h"

namespace qgrpo::tokenizer::jinja {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
// Letters outside of ASCII are taken without looking: they are in no template's operators.
bool begins_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string one_kind_of_line_end(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
      out += '\n';
    } else {
      out += source[i];
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(one_kind_of_line_end(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      const auto open = next_tag();
      if (open == std::string::npos) {
        data(std::string_view(source_).substr(at_));
        at_ = source_.size();
        break;
      }
      tag(open);
    }
    add(TokenType::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void error(const std::string& problem) const { fail("line {}: {}", line_, problem); }

  std::size_t next_tag() const {
    for (auto at = source_.find('{', at_); at != std::string::npos;
         at = source_.find('{', at + 1)) {
      const char c = at + 1 < source_.size() ? source_[at + 1] : '\0';
      if (c == '{' || c == '%' || c == '#') return at;
    }
    return std::string::npos;
  }

  bool looking_at(std::string_view text) const {
    return source_.compare(at_, text.size(), text) == 0;
  }

  void add(TokenType type, std::string text) { tokens_.push_back({type, std::move(text), line_}); }

  // Moves to `end`, counting lines.
  void advance(std::size_t end) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
    at_ = end;
  }

  void skip_space() {
    std::size_t end = at_;
    while (end < source_.size()) {
      std::size_t next = end;
      if (!is_space(utf8::next(source_, next))) break;
      end = next;
    }
    advance(end);
  }

  void data(std::string_view text) {
    if (!text.empty()) add(TokenType::kData, std::string(text));
  }

  // The text before a tag, without what the tag drops of it.
  std::string_view text_before(std::size_t open, char sign, bool block) const {
    std::string_view text = std::string_view(source_).substr(at_, open - at_);
    if (sign == '-') return strip(text, nullptr, false, true);
    if (sign == '+' || !block) return text;
    const auto line = text.rfind('\n') + 1;
    if (line == 0 && !line_starting_) return text;
    return strip(text.substr(line), nullptr, true, true).empty() ? text.substr(0, line) : text;
  }

  // Moves behind the end of a tag: one of "-%}" with all white space that follows, "+%}", and "%}"
  // with one line break. False where there is none here.
  bool end_of(std::string_view close, bool trim_line) {
    if (looking_at(fmt::format("-{}", close))) {
      at_ += close.size() + 1;
      skip_space();
    } else if (trim_line && looking_at(fmt::format("+{}", close))) {
      at_ += close.size() + 1;
    } else if (looking_at(close)) {
      at_ += close.size();
      if (trim_line && at_ < source_.size() && source_[at_] == '\n') advance(at_ + 1);
    } else {
      return false;
    }
    line_starting_ = source_[at_ - 1] == '\n';
    return true;
  }

  void tag(std::size_t open) {
    const char kind = source_[open + 1];
    char sign = open + 2 < source_.size() ? source_[open + 2] : '\0';
    if (sign != '-' && sign != '+') sign = '\0';
    const auto text = text_before(open, sign, kind != '{');
    data(text);
    advance(open);
    at_ += sign == '\0' ? 2 : 3;
    if (kind == '#') {
      comment();
    } else if (kind == '{') {
      add(TokenType::kVariableBegin, "{{");
      inside("}}", TokenType::kVariableEnd);
    } else if (!raw()) {
      add(TokenType::kBlockBegin, "{%");
      inside("%}", TokenType::kBlockEnd);
    }
  }

  void comment() {
    const auto end = source_.find("#}", at_);
    if (end == std::string::npos) error("the comment {# has no end #}");
    const bool sign = end > at_ && (source_[end - 1] == '-' || source_[end - 1] == '+');
    advance(sign ? end - 1 : end);
    end_of("#}", true);
  }

  // Behind "{%": moves behind "word %}", or stays and gives false. Jinja drops no line break
  // behind {% raw %}.
  bool word_tag(std::string_view word, bool trim_line) {
    const std::size_t begin = at_;
    const int line = line_;
    skip_space();
    if (looking_at(word)) {
      at_ += word.size();
      skip_space();
      if (trim_line ? end_of("%}", true) : !looking_at("+") && end_of("%}", false)) return true;
    }
    at_ = begin;
    line_ = line;
    return false;
  }

  bool raw() {
    const int line = line_;
    if (!word_tag("raw", false)) return false;
    for (auto open = source_.find("{%", at_); open != std::string::npos;
         open = source_.find("{%", open + 2)) {
      char sign = open + 2 < source_.size() ? source_[open + 2] : '\0';
      if (sign != '-' && sign != '+') sign = '\0';
      const std::string text(text_before(open, sign, true));
      const std::size_t begin = at_;
      const int begin_line = line_;
      advance(open);
      at_ += sign == '\0' ? 2 : 3;
      if (word_tag("endraw", true)) {
        if (!text.empty()) tokens_.push_back({TokenType::kData, text, begin_line});
        return true;
      }
      at_ = begin;
      line_ = begin_line;
    }
    line_ = line;
    error("{% raw %} has no {% endraw %}");
  }

  void inside(std::string_view close, TokenType end_type) {
    std::string open_brackets;
    const int line = line_;
    while (true) {
      skip_space();
      if (at_ >= source_.size()) {
        line_ = line;
        error(fmt::format("the tag that begins here has no end {}", close));
      }
      if (open_brackets.empty()) {
        const int end_line = line_;
        if (end_of(close, close == "%}")) {
          tokens_.push_back({end_type, std::string(close), end_line});
          return;
        }
      }
      const char c = source_[at_];
      if (is_digit(c)) {
        number();
      } else if (begins_name(c)) {
        std::size_t end = at_;
        while (end < source_.size() && (begins_name(source_[end]) || is_digit(source_[end]))) ++end;
        add(TokenType::kName, source_.substr(at_, end - at_));
        at_ = end;
      } else if (c == '\'' || c == '"') {
        string(c);
      } else {
        operation(open_brackets);
      }
    }
  }

  void operation(std::string& open_brackets) {
    static constexpr std::array<std::string_view, 26> kOperators = {
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    const auto found = std::find_if(kOperators.begin(), kOperators.end(),
                                    [&](std::string_view text) { return looking_at(text); });
    if (found == kOperators.end()) {
      std::size_t end = at_;
      utf8::next(source_, end);
      error(fmt::format("unexpected character '{}' in a tag", source_.substr(at_, end - at_)));
    }
    const char c = found->front();
    if (c == '(' || c == '[' || c == '{') {
      open_brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
      if (open_brackets.empty()) error(fmt::format("unexpected '{}'", c));
      if (open_brackets.back() != c) {
        error(fmt::format("unexpected '{}', expected '{}'", c, open_brackets.back()));
      }
      open_brackets.pop_back();
    }
    add(TokenType::kOperator, std::string(*found));
    at_ += found->size();
  }

  std::size_t digits(std::size_t from) const {
    std::size_t end = from;
    while (end < source_.size() &&
           (is_digit(source_[end]) || (source_[end] == '_' && end > from &&
                                       end + 1 < source_.size() && is_digit(source_[end + 1])))) {
      ++end;
    }
    return end;
  }

  void number() {
    std::size_t end = digits(at_);
    bool fraction = false;
    // "1.2" is a number, also behind "x."; "1.x" is not.
    if (end + 1 < source_.size() && source_[end] == '.' && is_digit(source_[end + 1]) &&
        (at_ == 0 || source_[at_ - 1] != '.')) {
      end = digits(end + 1);
      fraction = true;
    }
    if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      std::size_t exponent = end + 1;
      if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) {
        ++exponent;
      }
      if (digits(exponent) > exponent) {
        end = digits(exponent);
        fraction = true;
      }
    }
    std::string text = source_.substr(at_, end - at_);
    std::erase(text, '_');
    if (!fraction && text.size() > 1 && text[0] == '0' &&
        text.find_first_not_of('0') != std::string::npos) {
      error(fmt::format("unexpected number {}", text));
    }
    add(fraction ? TokenType::kFloat : TokenType::kInteger, text);
    at_ = end;
  }

  // The escapes of Python's string literals.
  void string(char quote) {
    const int line = line_;
    std::string value;
    std::size_t i = at_ + 1;
    for (; i < source_.size() && source_[i] != quote; ++i) {
      if (source_[i] != '\\' || i + 1 >= source_.size()) {
        value += source_[i];
        continue;
      }
      static constexpr std::string_view kFrom = "ntrabfv\\'\"";
      static constexpr std::string_view kTo = "\n\t\r\a\b\f\v\\'\"";
      const char c = source_[++i];
      if (const auto known = kFrom.find(c); known != std::string_view::npos) {
        value += kTo[known];
      } else if (c >= '0' && c <= '7') {
        char32_t code = 0;
        std::size_t end = i;
        while (end < source_.size() && end < i + 3 && source_[end] >= '0' && source_[end] <= '7') {
          code = code * 8 + static_cast<char32_t>(source_[end++] - '0');
        }
        utf8::append(value, code);
        i = end - 1;
      } else if (c == 'x' || c == 'u' || c == 'U') {
        i = code_point(i + 1, c == 'x' ? 2 : c == 'u' ? 4 : 8, value) - 1;
      } else if (c != '\n') {  // a line break behind a backslash is dropped
        value += '\\';
        value += c;
      }
    }
    if (i >= source_.size()) {
      line_ = line;
      error(fmt::format("the string that begins with {} has no end", source_.substr(at_, 1)));
    }
    add(TokenType::kString, std::move(value));
    advance(i + 1);
  }

  std::size_t code_point(std::size_t begin, std::size_t size, std::string& value) const {
    char32_t code = 0;
    for (std::size_t i = begin; i < begin + size; ++i) {
      const int digit = i < source_.size() ? hex_value(source_[i]) : -1;
      if (digit < 0) error(fmt::format("a \\x, \\u or \\U escape without {} digits", size));
      code = code * 16 + static_cast<char32_t>(digit);
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
      error(fmt::format("\\u{:x} is not a character", static_cast<unsigned>(code)));
    }
    utf8::append(value, code);
    return begin + size;
  }

  const std::string source_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  return Lexer(source).run();
}

std::string describe(const Token& token) {
  switch (token.type) {
    case TokenType::kEnd:
      return "the end of the template";
    case TokenType::kData:
      return "text";
    case TokenType::kString:
      return string_repr(token.text);
    default:
      return fmt::format("'{}'", token.text);
  }
}

}  // namespace qgrpo::tokenizer::jinja
