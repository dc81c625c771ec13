#pragma once

#include <cstddef>
#include <string_view>

// The few str operations of Python that the reward functions are made of, on UTF-8 text. A Python
// str is a sequence of code points, so lengths count code points and character classes are
// Unicode's. The text is meant to be valid UTF-8; an ill-formed byte is a code point that is
// neither a space nor a digit. Every function takes time linear in the text.
namespace qgrpo::train {

// str.isspace of one code point, and what `\s` matches in a str pattern of Python's re.
bool python_is_space(char32_t c);

// str.strip(): without the white space at both ends.
std::string_view python_strip(std::string_view text);

// str.isdigit(): not empty, and every code point has the Unicode property Numeric_Type = Decimal or
// Digit (so superscripts and circled digits count; fractions and Roman numerals do not).
bool python_isdigit(std::string_view text);

// str.count(needle): occurrences that do not overlap, found from the left. `needle` is not empty.
std::size_t python_count(std::string_view text, std::string_view needle);

// str.split(separator)[-1]. The separators are found from the left and do not overlap, which is not
// always what a search from the right finds: "\n.\n.\n" split at "\n.\n" ends in ".\n".
std::string_view python_split_last(std::string_view text, std::string_view separator);

// str.split(separator)[0].
std::string_view python_split_first(std::string_view text, std::string_view separator);

// len(): code points.
std::size_t python_len(std::string_view text);

// The length in bytes of the white space (`\s*`) that `text` begins with.
std::size_t leading_space_bytes(std::string_view text);

}  // namespace qgrpo::train
