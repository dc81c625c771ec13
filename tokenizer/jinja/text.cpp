#include "tokenizer/jinja/text.h"

#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "model/io/utf8.h"
#include "model/ops/error.h"

namespace qgrpo::tokenizer::jinja {

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

bool is_printable(char32_t c) {
  if (c < 0x7F) return c >= 0x20;
  switch (u_charType(static_cast<UChar32>(c))) {
    case U_UNASSIGNED:
    case U_CONTROL_CHAR:
    case U_FORMAT_CHAR:
    case U_PRIVATE_USE_CHAR:
    case U_SURROGATE:
    case U_SPACE_SEPARATOR:
    case U_LINE_SEPARATOR:
    case U_PARAGRAPH_SEPARATOR:
      return false;
    default:
      return true;
  }
}

bool is_letter(char32_t c) {
  const auto category = u_charType(static_cast<UChar32>(c));
  return category >= U_UPPERCASE_LETTER && category <= U_OTHER_LETTER;
}

namespace {

int numeric_type(char32_t c) {
  return u_getIntPropertyValue(static_cast<UChar32>(c), UCHAR_NUMERIC_TYPE);
}

}  // namespace

bool is_decimal(char32_t c) {
  return numeric_type(c) == U_NT_DECIMAL;
}
bool is_digit(char32_t c) {
  return numeric_type(c) == U_NT_DECIMAL || numeric_type(c) == U_NT_DIGIT;
}
bool is_numeric(char32_t c) {
  return numeric_type(c) != U_NT_NONE;
}
bool is_alphanumeric(char32_t c) {
  return is_letter(c) || is_numeric(c);
}

std::u32string decode(std::string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) out += utf8::next(text, i);
  return out;
}

std::string encode(std::u32string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char32_t c : text) utf8::append(out, c);
  return out;
}

std::size_t length(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0u) != 0x80u;
  }));
}

namespace {

icu::UnicodeString to_icu(std::string_view text) {
  return icu::UnicodeString::fromUTF8(
      icu::StringPiece(text.data(), static_cast<std::int32_t>(text.size())));
}

std::string from_icu(const icu::UnicodeString& text) {
  std::string out;
  text.toUTF8String(out);
  return out;
}

}  // namespace

std::string to_upper(std::string_view text) {
  return from_icu(to_icu(text).toUpper(icu::Locale::getRoot()));
}

std::string to_lower(std::string_view text) {
  return from_icu(to_icu(text).toLower(icu::Locale::getRoot()));
}

std::string fold_case(std::string_view text) {
  return from_icu(to_icu(text).foldCase());
}

std::string capitalize(std::string_view text) {
  if (text.empty()) return "";
  std::size_t first = 0;
  const char32_t c = utf8::next(text, first);
  // What title case makes of one character is its own upper case, but for digraphs (U+01C4..).
  const auto title = static_cast<char32_t>(u_totitle(static_cast<UChar32>(c)));
  std::string out;
  if (title != c) {
    utf8::append(out, title);
  } else {
    const std::string upper = to_upper(text.substr(0, first));  // "ß" has no single one
    out = length(upper) > 1 ? capitalize(upper) : upper;
  }
  return out + to_lower(text.substr(first));
}

std::size_t find_text(std::string_view text, std::string_view part, std::size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (part.empty()) return from;
  const void* at = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return at == nullptr ? std::string_view::npos
                       : static_cast<std::size_t>(static_cast<const char*>(at) - text.data());
}

std::size_t find_last_text(std::string_view text, std::string_view part) {
  // The first one from behind.
  const std::string back(text.rbegin(), text.rend());
  const auto at = find_text(back, std::string(part.rbegin(), part.rend()));
  return at == std::string_view::npos ? at : text.size() - at - part.size();
}

std::string_view strip(std::string_view text, const std::string* chars, bool left, bool right) {
  std::u32string set = chars == nullptr ? std::u32string() : decode(*chars);
  std::sort(set.begin(), set.end());
  const auto drop = [&](char32_t c) {
    return chars == nullptr ? is_space(c) : std::binary_search(set.begin(), set.end(), c);
  };
  while (left && !text.empty()) {
    std::size_t next = 0;
    if (!drop(utf8::next(text, next))) break;
    text.remove_prefix(next);
  }
  while (right && !text.empty()) {
    std::size_t last = text.size() - 1;
    while (last > 0 && (static_cast<unsigned char>(text[last]) & 0xC0u) == 0x80u) --last;
    std::size_t at = last;
    if (!drop(utf8::next(text, at))) break;
    text = text.substr(0, last);
  }
  return text;
}

std::vector<std::string> split_lines(std::string_view text) {
  std::vector<std::string> lines;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t at = i;
    const char32_t c = utf8::next(text, i);
    const bool ends = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 ||
                      c == 0x2028 || c == 0x2029;
    if (!ends) continue;
    lines.emplace_back(text.substr(begin, at - begin));
    if (c == '\r' && i < text.size() && text[i] == '\n') ++i;
    begin = i;
  }
  if (begin < text.size()) lines.emplace_back(text.substr(begin));
  return lines;
}

std::size_t count(std::string_view text, std::string_view part) {
  if (part.empty()) return length(text) + 1;
  std::size_t n = 0;
  for (auto at = find_text(text, part); at != std::string_view::npos;
       at = find_text(text, part, at + part.size())) {
    ++n;
  }
  return n;
}

void check_text_size(double bytes) {
  require(bytes <= static_cast<double>(kMaxText),
          "a text of more than {} MiB: the template makes too much of its input", kMaxText >> 20);
}

std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    std::int64_t most) {
  std::size_t left = count(text, from);
  if (most >= 0) left = std::min(left, static_cast<std::size_t>(most));
  check_text_size(static_cast<double>(text.size()) +
                  static_cast<double>(left) * static_cast<double>(to.size()));
  std::string out;
  std::size_t begin = 0;
  if (from.empty()) {
    for (; left > 0; --left) {
      out += to;
      if (begin == text.size()) break;
      const std::size_t at = begin;
      utf8::next(text, begin);
      out += text.substr(at, begin - at);
    }
    return out += text.substr(begin);
  }
  for (; left > 0; --left) {
    const auto at = find_text(text, from, begin);
    out += text.substr(begin, at - begin);
    out += to;
    begin = at + from.size();
  }
  return out += text.substr(begin);
}

std::string string_repr(std::string_view text) {
  const bool both = text.find('\'') != std::string_view::npos;
  const char quote = both && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for (std::size_t i = 0; i < text.size();) {
    const char32_t c = utf8::next(text, i);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out += '\\';
      utf8::append(out, c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (is_printable(c)) {
      utf8::append(out, c);
    } else if (c < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned>(c));
    } else if (c < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<unsigned>(c));
    }
  }
  return out += quote;
}

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  // The shortest digits that read back as the same number, as d.ddde+xx.
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  const std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  const auto e = text.find('e');
  const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
  if (exponent < -4 || exponent >= 16) return std::string(text);
  const auto fixed =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::fixed).ptr;
  std::string out(buffer, fixed);
  if (out.find('.') == std::string::npos) out += ".0";
  return out;
}

}  // namespace qgrpo::tokenizer::jinja
