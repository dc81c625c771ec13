#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace qgrpo::io {

// A message as one line for a terminal or a log, whatever a file's names and texts have put into it: white space
// becomes a space, other control characters \xNN, bytes that are no UTF-8 U+FFFD; and of more than 4096 bytes the
// middle is left out.
std::string shown_line(std::string_view text);

// Says what a user should know of an input that is read nevertheless: of two files that contradict
// each other which one counts, what is left out. Each text is said once in a process, as one line
// "qgrpo: note: TEXT" on standard error.
void note(const std::string& text);

// Hands the notes to `sink` instead, each time; nothing: back to standard error. For tests.
void set_note_sink(std::function<void(const std::string&)> sink);

}  // namespace qgrpo::io
