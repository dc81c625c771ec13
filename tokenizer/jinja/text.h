#pragma once

#include <string>
#include <string_view>
#include <vector>

// Python's view of text, which Jinja templates are written for: strings of code points. All text
// is well-formed UTF-8.
namespace qgrpo::tokenizer::jinja {

bool is_space(char32_t c);      // str.isspace of one character
bool is_printable(char32_t c);  // str.isprintable of one character
bool is_letter(char32_t c);     // str.isalpha
bool is_decimal(char32_t c);
bool is_digit(char32_t c);
bool is_numeric(char32_t c);
bool is_alphanumeric(char32_t c);

std::u32string decode(std::string_view text);
std::string encode(std::u32string_view text);
std::size_t length(std::string_view text);  // in code points

std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string fold_case(std::string_view text);
std::string capitalize(std::string_view text);  // the first in title case, the rest in lower case

// Where `part` begins in the text, first and last; npos: nowhere. The time is that of reading both,
// whatever they hold (std::string_view's is their product where all letters are alike).
std::size_t find_text(std::string_view text, std::string_view part, std::size_t from = 0);
std::size_t find_last_text(std::string_view text, std::string_view part);
// str.strip: without `chars`, white space.
std::string_view strip(std::string_view text, const std::string* chars, bool left, bool right);
// str.splitlines(keepends=False).
std::vector<std::string> split_lines(std::string_view text);
// Non-overlapping occurrences of `part`; of an empty one, one before each character and at the end.
std::size_t count(std::string_view text, std::string_view part);
// str.replace: the first `most` occurrences, all where it is negative. Throws Error where the
// result would be too long.
std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    std::int64_t most);

std::string string_repr(std::string_view text);  // repr(str)
std::string float_repr(double value);            // repr(float)

// The longest text that a template may make, in bytes.
inline constexpr std::size_t kMaxText = std::size_t{64} << 20;
// Throws Error where `bytes` is more than that.
void check_text_size(double bytes);

}  // namespace qgrpo::tokenizer::jinja
