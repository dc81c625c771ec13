#include "tokenizer/added_tokens.h"

#include <unicode/uchar.h>

#include <algorithm>

#include "model/io/utf8.h"

namespace qgrpo::tokenizer {
namespace {

bool is_space(char32_t c) {
  return u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_WHITE_SPACE) != 0;
}

// Unicode's \w (UTS #18): alphabetic, marks, decimal digits, connectors, join controls.
bool is_word(char32_t c) {
  const auto character = static_cast<UChar32>(c);
  const std::uint32_t category = U_MASK(u_charType(character));
  return u_hasBinaryProperty(character, UCHAR_ALPHABETIC) != 0 ||
         u_hasBinaryProperty(character, UCHAR_JOIN_CONTROL) != 0 ||
         (category & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0;
}

// The last character's first byte.
std::size_t previous_character(std::string_view text, std::size_t end) {
  do {
    --end;
  } while (end > 0 && (text[end] & 0xC0) == 0x80);
  return end;
}

bool ends_with(std::string_view text, std::size_t end, bool (*is)(char32_t)) {
  if (end == 0) return false;
  std::size_t at = previous_character(text, end);
  return is(utf8::next(text, at));
}

bool starts_with(std::string_view text, std::size_t begin, bool (*is)(char32_t)) {
  return begin < text.size() && is(utf8::next(text, begin));
}

}  // namespace

std::int32_t AddedTokenMatcher::child(std::int32_t node, unsigned char byte) const {
  for (const auto& [key, to] : nodes_[node].children) {
    if (key == byte) return to;
  }
  return -1;
}

void AddedTokenMatcher::add(const AddedToken& token) {
  if (token.content.empty()) return;
  std::int32_t node = 0;
  for (const char c : token.content) {
    const auto byte = static_cast<unsigned char>(c);
    std::int32_t to = child(node, byte);
    if (to < 0) {
      to = static_cast<std::int32_t>(nodes_.size());
      nodes_[node].children.emplace_back(byte, to);
      nodes_.emplace_back();
    }
    node = to;
  }
  auto& slot = nodes_[node].token;
  if (slot < 0) {
    slot = static_cast<std::int32_t>(tokens_.size());
    tokens_.push_back(token);
    starts_[static_cast<unsigned char>(token.content[0])] = true;
  }
}

bool AddedTokenMatcher::find(std::string_view input, std::size_t from, std::size_t done,
                             bool skip_special, Found& found) const {
  if (tokens_.empty()) return false;
  for (std::size_t at = from; at < input.size(); ++at) {
    if (!starts_[static_cast<unsigned char>(input[at])]) continue;
    std::int32_t longest = -1;
    std::int32_t node = 0;
    for (std::size_t i = at; i < input.size(); ++i) {
      node = child(node, static_cast<unsigned char>(input[i]));
      if (node < 0) break;
      const std::int32_t here = nodes_[node].token;
      if (here >= 0) longest = here;
    }
    if (longest < 0) continue;
    const AddedToken& token = tokens_[longest];
    std::size_t end = at + token.content.size();
    const bool inside_word = ends_with(input, at, is_word) || starts_with(input, end, is_word);
    if ((skip_special && token.special) || (token.single_word && inside_word)) {
      at = end - 1;  // matches do not overlap, not even with one that is passed over
      continue;
    }
    found = {at, end, end, token.id};
    if (token.lstrip) {
      while (found.begin > done && ends_with(input, found.begin, is_space)) {
        found.begin = std::max(done, previous_character(input, found.begin));
      }
    }
    if (token.rstrip) {
      while (starts_with(input, found.end, is_space)) utf8::next(input, found.end);
    }
    return true;
  }
  return false;
}

}  // namespace qgrpo::tokenizer
