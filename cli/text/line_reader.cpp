#include "cli/text/line_reader.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "model/ops/error.h"

namespace qgrpo::cli {
namespace {

[[noreturn]] void fail_with_long_line(const std::string& where, std::size_t most,
                                      const std::string& why) {
  fail("{}: is longer than {} MiB, the most that is read of a line{}", where, most >> 20, why);
}

}  // namespace

bool next_line(std::istream& input, std::string& line, const std::string& where) {
  constexpr auto kEnd = std::char_traits<char>::eof();
  line.clear();
  try {
    while (input.good()) {
      const int c = input.rdbuf()->sbumpc();
      if (c == '\n') return true;
      if (c == kEnd) {
        input.setstate(std::ios_base::eofbit);
        break;
      }
      if (line.size() == kMostLineBytes) fail_with_long_line(where, kMostLineBytes, "");
      line += static_cast<char>(c);
    }
  } catch (const std::ios_base::failure&) {  // a read error
    input.setstate(std::ios_base::badbit);
    return false;
  }
  return !line.empty();
}

LineReader::LineReader(const std::string& input) {
  if (input.empty() || input == "-") {
    name_ = "standard input";
    return;
  }
  name_ = input;
  file_ = open(input.c_str(), O_RDONLY | O_CLOEXEC);
  require(file_ >= 0, "{}: {}, expected a file of JSON lines", name_, std::strerror(errno));
  owned_ = true;
}

LineReader::~LineReader() {
  if (owned_) close(file_);
}

std::string LineReader::where() const {
  return fmt::format("{} line {}", name_, number_);
}

void LineReader::limit_lines(std::size_t bytes, const std::string& why) {
  most_ = bytes;
  why_ = why;
}

LineReader::Status LineReader::next(std::string& line, bool wait) {
  while (true) {
    const std::size_t end = buffer_.find('\n', scanned_);
    scanned_ = end == std::string::npos ? buffer_.size() : end;
    if (end != std::string::npos || (at_end_ && begin_ < buffer_.size())) {
      const std::size_t stop = std::min(end, buffer_.size());
      line.assign(buffer_, begin_, stop - begin_);
      begin_ = scanned_ = std::min(stop + 1, buffer_.size());
      ++number_;
      return Status::line;
    }
    if (at_end_) return Status::end;
    if (buffer_.size() - begin_ > most_)
      fail_with_long_line(fmt::format("{} line {}", name_, number_ + 1), most_, why_);

    if (!wait) {
      pollfd ready{file_, POLLIN, 0};
      if (poll(&ready, 1, 0) <= 0) return Status::not_ready;
    }
    buffer_.erase(0, begin_);
    scanned_ -= begin_;
    begin_ = 0;
    const std::size_t size = buffer_.size();
    buffer_.resize(size + (1 << 16));
    const ssize_t got = read(file_, buffer_.data() + size, 1 << 16);
    const int error = errno;
    buffer_.resize(size + (got > 0 ? static_cast<std::size_t>(got) : 0));
    if (got < 0 && error == EINTR) return Status::interrupted;
    require(got >= 0, "{}: {} while reading", name_, std::strerror(error));
    at_end_ = got == 0;
  }
}

}  // namespace qgrpo::cli
