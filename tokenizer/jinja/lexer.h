#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qgrpo::tokenizer::jinja {

enum class TokenType {
  kData,  // text between tags, after white space control
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,  // `text` is its value
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenType type = TokenType::kEnd;
  std::string text;
  int line = 1;
};

// Cuts a template into tokens as Jinja does with trim_blocks and lstrip_blocks: the line break
// behind a block tag or comment is dropped, and so is the white space before one that begins its
// line. Throws Error that begins with "line N: ".
std::vector<Token> tokenize(std::string_view source);

// How messages name a token: "'endif'", "the end of the template".
std::string describe(const Token& token);

}  // namespace qgrpo::tokenizer::jinja
