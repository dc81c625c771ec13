#pragma once

#include <cstddef>
#include <istream>
#include <string>

namespace qgrpo::cli {

// The most bytes of a line: of one that never ends the memory would.
inline constexpr std::size_t kMostLineBytes = std::size_t{64} << 20;

// std::getline() for lines of at most kMostLineBytes. Throws Error, which begins with `where`.
bool next_line(std::istream& input, std::string& line, const std::string& where);

// Lines of a file or of standard input, read as they come: a program that sends one line and waits
// for its answer is served, as is one that sends all lines at once.
class LineReader {
 public:
  enum class Status {
    line,
    end,
    not_ready,    // without waiting, there is no whole line yet
    interrupted,  // a signal arrived while waiting
  };

  // `input`: a path; empty or "-" is standard input. Throws Error naming the path.
  explicit LineReader(const std::string& input);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  // From now on a line has at most so many bytes (kMostLineBytes before). `why`: what a longer one would be too long
  // for, the end of the message.
  void limit_lines(std::size_t bytes, const std::string& why);

  // The next line, without its end. Throws Error on a read error and on a line that is too long.
  Status next(std::string& line, bool wait);

  // Of the line returned last: "standard input line 3".
  std::string where() const;

 private:
  std::string name_;
  int file_ = 0;
  bool owned_ = false;
  bool at_end_ = false;
  std::size_t number_ = 0;
  std::size_t most_ = kMostLineBytes;
  std::string why_;
  std::string buffer_;
  std::size_t begin_ = 0;    // of what has not been returned, in buffer_
  std::size_t scanned_ = 0;  // up to here there is no line end
};

}  // namespace qgrpo::cli
