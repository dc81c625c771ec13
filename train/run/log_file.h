#pragma once

#include <cstdint>
#include <fstream>
#include <string>

namespace qgrpo::train {

// An append-only log of lines whose length a checkpoint records: a resumed run cuts off what came
// later.
class LogFile {
 public:
  // offset: bytes to keep of an existing file; what is behind them, and a last line that is not
  // whole, is cut off. Throws Error where the file cannot be cut or opened.
  LogFile(std::string path, std::uint64_t offset);
  // Appends a line and flushes. Throws Error when it cannot be written.
  void append(const std::string& line);
  std::uint64_t size() const { return size_; }

 private:
  std::string path_;
  std::ofstream file_;
  std::uint64_t size_ = 0;
};

}  // namespace qgrpo::train
