#include "model/io/json_trouble.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>

#include "model/io/utf8.h"

namespace qgrpo::io {
namespace {

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '+' || c == '-' ||
         c == '.';
}

// Of a long number or word, what fits on a line.
std::string shortened(std::string_view text) {
  constexpr std::size_t kMost = 40;
  return text.size() <= kMost ? std::string(text) : std::string(text.substr(0, kMost)) + "..";
}

// How many bytes of it are well-formed UTF-8.
std::size_t valid_prefix(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const auto lead = static_cast<unsigned char>(text[at]);
    const std::size_t size = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (!utf8::is_valid(text.substr(at, size))) break;
    at += std::min(size, text.size() - at);
  }
  return at;
}

// Goes through a text as a parser does, up to the first thing that JSON does not have.
class Scan {
 public:
  explicit Scan(std::string_view text) : text_(text) {}

  std::string run() {
    while (trouble_.empty() && at_ < text_.size()) next();
    if (!trouble_.empty()) return trouble_;
    if (depth_ > 0) return "it ends inside an object: cut off, or spread over several lines";
    return "";
  }

 private:
  void next() {
    const char c = text_[at_];
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
      ++at_;
      return;
    }
    if (ended_) {
      trouble_ = c == ',' ? "a comma behind the object, as inside an array"
                          : "something stands behind the first value, expected one object a line";
      return;
    }
    switch (c) {
      case '"':
        string();
        break;
      case '{':
      case '[':
        ++depth_;
        ++at_;
        break;
      case '}':
      case ']':
        if (before_ == ',') trouble_ = fmt::format("a comma before the closing {}", c);
        --depth_;
        ++at_;
        value_ends();
        break;
      case ',':
      case ':':
        ++at_;
        if (c == ':') key_ = last_string_;
        break;
      default:
        other(c);
    }
    before_ = c;
  }

  void other(char c) {
    if (c == '\'') {
      trouble_ = "a single quote, as Python prints a dict; expected double quotes (json.dumps)";
    } else if (c == '#' || c == '/') {
      trouble_ = fmt::format("a comment ({}), which JSON does not have", c);
    } else if (is_word(c)) {
      word();
    } else {
      trouble_ = static_cast<unsigned char>(c) < 0x80 && std::isprint(c) != 0
                     ? fmt::format("an unexpected {}", c)
                     : fmt::format("an unexpected byte 0x{:02x}", static_cast<unsigned char>(c));
    }
  }

  void value_ends() { ended_ = depth_ <= 0; }
  std::string of_key() const { return key_.empty() ? "" : fmt::format("\"{}\" is ", key_); }

  void word() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && is_word(text_[at_])) ++at_;
    const std::string_view word = text_.substr(begin, at_ - begin);
    value_ends();
    if (word == "true" || word == "false" || word == "null") return;
    if (word == "NaN" || word == "nan" || word == "Infinity" || word == "-Infinity") {
      trouble_ =
          fmt::format("{}{}, which Python writes but JSON does not have; expected a number or null",
                      of_key(), word);
    } else if (word == "True" || word == "False" || word == "None") {
      trouble_ = fmt::format("{}Python's {}; expected {}", of_key(), word,
                             word == "None"   ? "null"
                             : word == "True" ? "true"
                                              : "false");
    } else if (std::isdigit(static_cast<unsigned char>(word.back())) != 0 &&
               (word.front() == '-' ||
                std::isdigit(static_cast<unsigned char>(word.front())) != 0)) {
      number(word);
    } else {
      trouble_ = fmt::format("{}{}, expected a value in JSON", of_key(), shortened(word));
    }
  }

  void number(std::string_view word) {
    const std::string text(word);
    if (word.find_first_of(".eE") != std::string_view::npos) {
      if (!std::isfinite(std::strtod(text.c_str(), nullptr)))
        trouble_ =
            fmt::format("{}{}, beyond what a double holds; expected a smaller number or a string",
                        of_key(), shortened(word));
      return;
    }
    std::int64_t whole = 0;
    std::uint64_t positive = 0;
    const auto holds = [&](auto& value) {
      return std::from_chars(word.data(), word.data() + word.size(), value).ec == std::errc();
    };
    if (holds(whole) || holds(positive)) return;
    trouble_ = fmt::format("{}{}, a whole number of more than 64 bits; write it as a string",
                           of_key(), shortened(word));
  }

  void string() {
    last_string_.clear();
    for (++at_; at_ < text_.size(); ++at_) {
      const auto c = static_cast<unsigned char>(text_[at_]);
      if (c == '"') {
        ++at_;
        value_ends();
        return;
      }
      if (c < 0x20) {
        trouble_ = fmt::format(
            "the control character 0x{:02x} in a string (behind \"{}\"), expected it as an escape "
            "(\\n, \\t, \\u00XX)",
            c, shortened(last_string_));
        return;
      }
      last_string_ += static_cast<char>(c);
      if (c == '\\' && !escape()) return;
    }
    trouble_ = "it ends inside a string: cut off, or a line break stands in the string as it is";
  }

  // The character behind a backslash, and the four digits of \u.
  bool escape() {
    const std::string_view rest = text_.substr(at_ + 1);
    ++at_;
    if (rest.empty() || std::string_view("\"\\/bfnrt").find(rest[0]) != std::string_view::npos)
      return true;
    if (rest[0] != 'u') {
      trouble_ = fmt::format("the escape \\{} in a string; a backslash itself is written \\\\",
                             utf8_start(rest));
      return false;
    }
    const auto low = [&](std::string_view at) {
      return at.starts_with("\\u") && at.size() > 3 &&
             std::string_view("dD").find(at[2]) != std::string_view::npos &&
             std::string_view("cdefCDEF").find(at[3]) != std::string_view::npos;
    };
    const bool surrogate = rest.size() > 2 &&
                           std::string_view("dD").find(rest[1]) != std::string_view::npos &&
                           std::string_view("89abAB").find(rest[2]) != std::string_view::npos;
    if (surrogate && rest.size() >= 5 && !low(rest.substr(5))) {
      trouble_ = fmt::format("\\{}, half of a character (a lone surrogate)", rest.substr(0, 5));
      return false;
    }
    return true;
  }

  static std::string_view utf8_start(std::string_view rest) {
    return static_cast<unsigned char>(rest[0]) < 0x80 ? rest.substr(0, 1) : std::string_view("?");
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int depth_ = 0;
  bool ended_ = false;  // the first value
  char before_ = ' ';
  std::string last_string_;
  std::string key_;
  std::string trouble_;
};

}  // namespace

std::string json_trouble(std::string_view text) {
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff"))
    return "it is UTF-16; expected UTF-8 (iconv -f UTF-16 -t UTF-8 FILE)";
  if (text.find('\0') != std::string_view::npos) return "a zero byte: it is no text, or UTF-16";
  const std::size_t valid = valid_prefix(text);
  if (valid < text.size()) {
    return fmt::format(
        "byte {} (0x{:02x}) is not UTF-8; of a file in Latin-1: iconv -f LATIN1 -t UTF-8 FILE",
        valid + 1, static_cast<unsigned char>(text[valid]));
  }
  return Scan(text).run();
}

}  // namespace qgrpo::io
