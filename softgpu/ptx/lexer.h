#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace softgpu::ptx {

enum class TokenKind : std::uint8_t {
  end,
  name,    // letters, digits, _ $ %, not starting with a digit: registers, labels, opcodes
  word,    // .name, including "::" parts: .reg, .u32, .L2::128B; the text has no leading dot
  number,  // 12, 0x1F, 0f3F800000, 0d3FF0000000000000, 1.5, 1e-5; no sign
  string,  // without quotes
  mark     // one character: , ; : { } [ ] ( ) < > + - @ ! | = * / ...
};

struct Token {
  std::string_view text;  // in the module's text
  std::uint32_t line = 0;
  TokenKind kind = TokenKind::end;

  bool is(char mark) const { return kind == TokenKind::mark && text.front() == mark; }
  bool is_word(std::string_view word) const { return kind == TokenKind::word && text == word; }
};

// All tokens of the text, comments left out, with one `end` token last. Throws Error for an open
// comment or string.
std::vector<Token> tokenize(std::string_view text);

}  // namespace softgpu::ptx
