#pragma once

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "model/ops/error.h"

// Standard input, output and error, whatever they are: closed, a full disk, a pipe without a reader,
// a terminal that is gone.
namespace qgrpo::io {

// What std::cout throws when it cannot write, by the system's reason.
class StandardOutputFailed : public Error {
 public:
  explicit StandardOutputFailed(int reason);
};

// For the start of main, before a file is opened. Descriptors 0 to 2 that the caller has closed are
// opened on /dev/null: the next file would get their number, and what is printed would land in it.
// That of standard output for reading alone, so that a result that nobody gets is an error. std::cout
// throws StandardOutputFailed from here on. A reader that closes its pipe ends the program (SIGPIPE);
// a file beyond the shell's limit (ulimit -f) is a failed write.
void set_up_standard_streams();

// What std::cout still holds is written. Throws StandardOutputFailed.
void finish_standard_output();

// The bytes at once, apart from std::cout. 0, or why they were not all written (errno).
int write_standard_output(std::string_view text) noexcept;

// What cannot be said on standard error is no reason to fail.
void write_standard_error(std::string_view text) noexcept;

template <typename... T>
void print_error(fmt::format_string<T...> format, T&&... values) {
  write_standard_error(fmt::format(format, std::forward<T>(values)...));
}

}  // namespace qgrpo::io
