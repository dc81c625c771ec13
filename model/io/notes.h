#pragma once

#include <functional>
#include <string>

namespace qgrpo::io {

// Says what a user should know of an input that is read nevertheless: of two files that contradict
// each other which one counts, what is left out. Each text is said once in a process, as one line
// "qgrpo: note: TEXT" on standard error.
void note(const std::string& text);

// Hands the notes to `sink` instead, each time; nothing: back to standard error. For tests.
void set_note_sink(std::function<void(const std::string&)> sink);

}  // namespace qgrpo::io
