#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace qgrpo::utf8 {

// True where `text` is well-formed UTF-8 (no surrogates, no overlong forms).
bool is_valid(std::string_view text);

// True where all bytes are below 0x80.
bool is_ascii(std::string_view text);

// Appends the code point as UTF-8.
void append(std::string& out, char32_t code_point);

// Reads the code point at `position` of well-formed UTF-8 and moves `position` behind it.
char32_t next(std::string_view text, std::size_t& position);

// What stands for bytes that are not UTF-8.
enum class Replacement {
  // One U+FFFD for each maximal part of a sequence: Python's bytes.decode("utf-8", "replace").
  kMaximalPart,
  // One U+FFFD for each byte: what the SentencePiece library does with its byte pieces.
  kEachByte,
};

// Moves the decodable front of `bytes` to the end of `out`, with replacements. What stays in
// `bytes` is the beginning of a character that later bytes may complete (at most 3 bytes); where
// `last` is set nothing stays. So decoding in pieces gives the same text as decoding at once.
void decode(std::string& bytes, std::string& out, Replacement replacement, bool last);

}  // namespace qgrpo::utf8
