#pragma once

#include <cstddef>
#include <string>

namespace qgrpo::cli {

// The text with line breaks between words where a line is longer than `columns` code points. Line breaks that are
// there stay; what a broken line goes on with stands under its beginning, `hanging` columns further in. A word that
// is longer than a line stays whole.
std::string wrapped(const std::string& text, std::size_t columns, std::size_t hanging);

// The text with "qgrpo COMMAND" as the program was called: what to type.
std::string as_called(std::string text);

}  // namespace qgrpo::cli
