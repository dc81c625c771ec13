#include "train/run/reserve.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "model/io/bytes.h"
#include "model/io/write_at.h"
#include "model/ops/error.h"

namespace qgrpo::train {
namespace {

constexpr std::string_view kFirstLine = "qgrpo: room for one more checkpoint\n";

// 0, or the reason why the file does not have so many bytes of its own.
int take(int file, std::uint64_t bytes) {
  int result = -1;
  do {
    result = ::fallocate(file, 0, 0, static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : errno;
}

bool is_full(int reason) {
  return reason == ENOSPC || reason == EDQUOT || reason == EFBIG;
}

}  // namespace

Reserve::Reserve(const std::string& folder, std::uint64_t bytes) : path_(folder + "/run.reserve") {
  if (bytes == 0) return;
  const int file = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644);
  if (file < 0) fail("{}: cannot be written ({})", path_, std::strerror(errno));
  std::array<char, kFirstLine.size()> buffer{};
  const ssize_t got = ::pread(file, buffer.data(), buffer.size(), 0);
  const std::string_view found(buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  // A run that was killed as it wrote has left a part.
  if (got < 0 || !kFirstLine.starts_with(found)) {
    ::close(file);
    fail("{}: was not written by qgrpo; move it, or choose another --output-dir", path_);
  }
  int reason = io::write_at(file, kFirstLine, 0);
  if (reason == 0) reason = take(file, bytes);
  ::close(file);
  if (reason == 0) {
    bytes_ = bytes;
    return;
  }
  ::unlink(path_.c_str());
  if (is_full(reason)) {
    fail(
        "{}: has no room for a checkpoint of {} ({}); free some space, or choose another "
        "--output-dir",
        folder, io::format_bytes(bytes), std::strerror(reason));
  }
}

Reserve::~Reserve() {
  release();
}

void Reserve::grow(std::uint64_t bytes) {
  if (bytes_ == 0 || bytes <= bytes_) return;
  const int file = ::open(path_.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) return;
  if (take(file, bytes) == 0) bytes_ = bytes;
  ::close(file);
}

bool Reserve::release() {
  if (bytes_ == 0) return false;
  bytes_ = 0;
  return ::unlink(path_.c_str()) == 0;
}

}  // namespace qgrpo::train
