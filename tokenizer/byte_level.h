#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace qgrpo::tokenizer {

// The byte-level alphabet of GPT-2: a printable character for each of the 256 bytes, so that tokens
// can be written in JSON. Bytes 0x21-0x7E, 0xA1-0xAC and 0xAE-0xFF stand for themselves (as code
// points); the other 68, in rising order, are U+0100, U+0101, ... ("Ġ", U+0120, is the space).
char32_t byte_to_character(std::uint8_t byte);

// The byte that the character stands for, or -1.
int character_to_byte(char32_t character);

// The byte-level spelling of arbitrary bytes.
std::string to_byte_level(std::string_view bytes);

// Turns the byte-level spelling of a token into its bytes. Where a character is not in the
// alphabet, `token` itself is returned: this is what Hugging Face's ByteLevel decoder does, and how
// added tokens with spaces or other scripts come out right.
std::string from_byte_level(std::string_view token);

}  // namespace qgrpo::tokenizer
