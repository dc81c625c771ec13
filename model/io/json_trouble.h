#pragma once

#include <string>
#include <string_view>

namespace qgrpo::io {

// What a JSON parser stumbles over in `text`, in the words of whoever wrote it: Python's NaN, a whole number
// beyond 64 bits, single quotes, a comment, a comma before a bracket, a second value on the line, a text that ends
// too early, bytes that are not UTF-8 ... Empty where it finds nothing to say.
std::string json_trouble(std::string_view text);

}  // namespace qgrpo::io
