#include "train/data/python_text.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <cstdint>

namespace qgrpo::train {
namespace {

const std::uint8_t* bytes_of(std::string_view text) {
  return reinterpret_cast<const std::uint8_t*>(text.data());
}

// The code point at `offset`, which moves behind it. ICU gives -1 for ill-formed bytes; no property
// holds for the replacement character either.
char32_t next_code_point(std::string_view text, std::size_t& offset) {
  const auto* s = bytes_of(text);
  const std::size_t size = text.size();
  UChar32 c;
  U8_NEXT(s, offset, size, c);
  return c < 0 ? U'\uFFFD' : static_cast<char32_t>(c);
}

// The code point that ends at `offset`, which moves to its start.
char32_t previous_code_point(std::string_view text, std::size_t& offset) {
  const std::string_view tail = text.substr(offset - std::min<std::size_t>(offset, 4));
  const auto* s = bytes_of(tail);
  const auto end = static_cast<std::int32_t>(std::min<std::size_t>(offset, 4));
  std::int32_t start = end;
  UChar32 c;
  U8_PREV(s, 0, start, c);
  offset -= static_cast<std::size_t>(end - start);
  return c < 0 ? U'\uFFFD' : static_cast<char32_t>(c);
}

}  // namespace

// Python's rule is "bidirectional class WS, B or S, or category Zs"; this is the whole list. ICU's
// White_Space differs from it at U+001C..U+001F.
bool python_is_space(char32_t c) {
  if (c <= 0x20) return c == 0x20 || (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x1f);
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

std::size_t leading_space_bytes(std::string_view text) {
  std::size_t end = 0;
  while (end < text.size()) {
    std::size_t next = end;
    if (!python_is_space(next_code_point(text, next))) break;
    end = next;
  }
  return end;
}

std::string_view python_strip(std::string_view text) {
  text.remove_prefix(leading_space_bytes(text));
  std::size_t end = text.size();
  while (end > 0) {
    std::size_t before = end;
    if (!python_is_space(previous_code_point(text, before))) break;
    end = before;
  }
  return text.substr(0, end);
}

bool python_isdigit(std::string_view text) {
  if (text.empty()) return false;
  for (std::size_t offset = 0; offset < text.size();) {
    const auto c = static_cast<UChar32>(next_code_point(text, offset));
    if (c >= '0' && c <= '9') continue;
    const int type = u_getIntPropertyValue(c, UCHAR_NUMERIC_TYPE);
    if (type != U_NT_DECIMAL && type != U_NT_DIGIT) return false;
  }
  return true;
}

std::size_t python_count(std::string_view text, std::string_view needle) {
  std::size_t count = 0;
  for (std::size_t at = text.find(needle); at != std::string_view::npos;
       at = text.find(needle, at + needle.size())) {
    ++count;
  }
  return count;
}

std::string_view python_split_last(std::string_view text, std::string_view separator) {
  std::size_t start = 0;
  for (std::size_t at = text.find(separator); at != std::string_view::npos;
       at = text.find(separator, start)) {
    start = at + separator.size();
  }
  return text.substr(start);
}

std::string_view python_split_first(std::string_view text, std::string_view separator) {
  return text.substr(0, text.find(separator));
}

std::size_t python_len(std::string_view text) {
  // Every byte but a continuation byte begins a code point.
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<std::uint8_t>(c) & 0xc0) != 0x80;
  }));
}

}  // namespace qgrpo::train
