#include "tokenizer/byte_level.h"

#include <array>

#include "model/io/utf8.h"

namespace qgrpo::tokenizer {
namespace {

struct Alphabet {
  std::array<char32_t, 256> character;
  std::array<std::int16_t, 324> byte;  // 256 + 68 characters

  Alphabet() {
    byte.fill(-1);
    char32_t spare = 256;
    for (int value = 0; value < 256; ++value) {
      const bool printable = (value >= 0x21 && value <= 0x7E) || (value >= 0xA1 && value != 0xAD);
      const char32_t code_point = printable ? static_cast<char32_t>(value) : spare++;
      character[value] = code_point;
      byte[code_point] = static_cast<std::int16_t>(value);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet table;
  return table;
}

}  // namespace

char32_t byte_to_character(std::uint8_t byte) {
  return alphabet().character[byte];
}

int character_to_byte(char32_t character) {
  const auto& table = alphabet().byte;
  return character < table.size() ? table[character] : -1;
}

std::string to_byte_level(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) utf8::append(out, byte_to_character(static_cast<std::uint8_t>(c)));
  return out;
}

std::string from_byte_level(std::string_view token) {
  std::string out;
  for (std::size_t i = 0; i < token.size();) {
    const int byte = character_to_byte(utf8::next(token, i));
    if (byte < 0) return std::string(token);
    out.push_back(static_cast<char>(byte));
  }
  return out;
}

}  // namespace qgrpo::tokenizer
