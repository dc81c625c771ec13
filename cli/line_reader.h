#pragma once

#include <cstddef>
#include <string>

namespace qgrpo::cli {

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

  // The next line, without its end. Throws Error on a read error.
  Status next(std::string& line, bool wait);

  // Of the line returned last: "standard input line 3".
  std::string where() const;

 private:
  std::string name_;
  int file_ = 0;
  bool owned_ = false;
  bool at_end_ = false;
  std::size_t number_ = 0;
  std::string buffer_;
  std::size_t begin_ = 0;    // of what has not been returned, in buffer_
  std::size_t scanned_ = 0;  // up to here there is no line end
};

}  // namespace qgrpo::cli
