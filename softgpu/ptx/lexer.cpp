#include "softgpu/ptx/lexer.h"

#include <array>
#include <cstddef>

#include "softgpu/ptx/error.h"

namespace softgpu::ptx {
namespace {

enum Class : std::uint8_t { kOther, kSpace, kNewline, kDigit, kLetter };

constexpr std::array<Class, 256> make_classes() {
  std::array<Class, 256> classes{};
  for (int c = 0; c < 256; ++c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (letter || c == '_' || c == '$' || c == '%')
      classes[static_cast<std::size_t>(c)] = kLetter;
    else if (c >= '0' && c <= '9')
      classes[static_cast<std::size_t>(c)] = kDigit;
    else if (c == '\n')
      classes[static_cast<std::size_t>(c)] = kNewline;
    else if (c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v' || c == 0)
      classes[static_cast<std::size_t>(c)] = kSpace;
  }
  return classes;
}
constexpr std::array<Class, 256> kClasses = make_classes();

Class class_of(char c) {
  return kClasses[static_cast<unsigned char>(c)];
}
bool in_name(char c) {
  return class_of(c) >= kDigit;
}

// Position after the number that starts at `i`: a '.' or a signed exponent continue it only where
// it is decimal, so that hexadecimal digits ending in e stay separate from a following sign.
std::size_t end_of_number(std::string_view text, std::size_t i) {
  const bool prefixed = text[i] == '0' && i + 1 < text.size() && class_of(text[i + 1]) == kLetter;
  while (i < text.size()) {
    const char c = text[i];
    if (in_name(c)) {
      ++i;
      if (prefixed || (c != 'e' && c != 'E')) continue;
      if (i < text.size() && (text[i] == '+' || text[i] == '-')) ++i;
    } else if (c == '.' && !prefixed && i + 1 < text.size() && class_of(text[i + 1]) == kDigit) {
      ++i;
    } else {
      break;
    }
  }
  return i;
}

std::size_t end_of_word(std::string_view text, std::size_t i) {
  while (i < text.size()) {
    if (in_name(text[i])) {
      ++i;
    } else if (text[i] == ':' && i + 2 < text.size() && text[i + 1] == ':' &&
               in_name(text[i + 2])) {
      i += 2;
    } else {
      break;
    }
  }
  return i;
}

}  // namespace

std::vector<Token> tokenize(std::string_view text) {
  std::vector<Token> tokens;
  tokens.reserve(text.size() / 4 + 1);
  std::uint32_t line = 1;
  std::size_t i = 0;
  const auto add = [&](TokenKind kind, std::size_t first, std::size_t last) {
    tokens.push_back({text.substr(first, last - first), line, kind});
  };
  while (i < text.size()) {
    const char c = text[i];
    const std::size_t start = i;
    switch (class_of(c)) {
      case kNewline:
        ++line;
        ++i;
        continue;
      case kSpace:
        ++i;
        continue;
      case kLetter:
        while (i < text.size() && in_name(text[i])) ++i;
        add(TokenKind::name, start, i);
        continue;
      case kDigit:
        i = end_of_number(text, i);
        add(TokenKind::number, start, i);
        continue;
      case kOther:
        break;
    }
    if (c == '.' && i + 1 < text.size() && in_name(text[i + 1])) {
      i = end_of_word(text, i + 1);
      add(TokenKind::word, start + 1, i);
    } else if (c == '/' && i + 1 < text.size() && text[i + 1] == '/') {
      i = text.find('\n', i);
      if (i == std::string_view::npos) i = text.size();
    } else if (c == '/' && i + 1 < text.size() && text[i + 1] == '*') {
      i = text.find("*/", i + 2);
      require(i != std::string_view::npos, "ptx:{}: comment without end", line);
      i += 2;
      for (std::size_t j = start; j < i; ++j) line += text[j] == '\n';
    } else if (c == '"') {
      i = text.find('"', i + 1);
      require(i != std::string_view::npos, "ptx:{}: string without end", line);
      add(TokenKind::string, start + 1, i);
      ++i;
    } else {
      add(TokenKind::mark, start, ++i);
    }
  }
  tokens.push_back({text.substr(text.size()), line, TokenKind::end});
  return tokens;
}

}  // namespace softgpu::ptx
