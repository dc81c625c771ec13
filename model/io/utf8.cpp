#include "model/io/utf8.h"

#include <simdjson.h>

#include <algorithm>

namespace qgrpo::utf8 {
namespace {

constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

struct Lead {
  int length;        // bytes of the sequence; 0: no sequence begins like this
  std::uint8_t low;  // the second byte's range (Unicode standard, table 3-7)
  std::uint8_t high;
};

Lead lead_of(std::uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

bool is_valid(std::string_view text) {
  return simdjson::validate_utf8(text.data(), text.size());
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
}

void append(std::string& out, char32_t code_point) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3F));
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

char32_t next(std::string_view text, std::size_t& position) {
  const auto lead = static_cast<std::uint8_t>(text[position++]);
  const int more = lead < 0x80 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
  char32_t code_point = more == 0 ? lead : lead & (0x3Fu >> more);
  for (int i = 0; i < more; ++i) {
    code_point = code_point << 6 | (static_cast<std::uint8_t>(text[position++]) & 0x3Fu);
  }
  return code_point;
}

void decode(std::string& bytes, std::string& out, Replacement replacement, bool last) {
  std::size_t i = 0;
  while (i < bytes.size()) {
    const Lead lead = lead_of(static_cast<std::uint8_t>(bytes[i]));
    std::size_t good = 1;  // bytes that belong together
    if (lead.length > 1) {
      for (; good < static_cast<std::size_t>(lead.length) && i + good < bytes.size(); ++good) {
        const auto byte = static_cast<std::uint8_t>(bytes[i + good]);
        const bool fits = good == 1 ? byte >= lead.low && byte <= lead.high : (byte & 0xC0) == 0x80;
        if (!fits) break;
      }
    }
    if (lead.length > 0 && good == static_cast<std::size_t>(lead.length)) {
      out.append(bytes, i, good);
    } else if (lead.length > 1 && i + good == bytes.size() && !last) {
      break;
    } else {
      const std::size_t marks = replacement == Replacement::kEachByte ? good : 1;
      for (std::size_t n = 0; n < marks; ++n) out.append(kReplacementCharacter);
    }
    i += good;
  }
  bytes.erase(0, i);
}

}  // namespace qgrpo::utf8
