#include "train/run/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "model/io/write_at.h"
#include "model/ops/error.h"
#include "train/run/run_folder.h"

namespace qgrpo::train {
namespace {

constexpr std::string_view kMark = "qgrpo ";

// The file's first line; empty: it has none.
std::string first_line(int file) {
  std::array<char, 512> buffer{};
  const ssize_t got = ::pread(file, buffer.data(), buffer.size(), 0);
  const std::string text(buffer.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
  return text.substr(0, text.find('\n'));
}

std::string description(const std::string& who) {
  struct utsname system {};
  const bool known = uname(&system) == 0;
  return fmt::format("{}{}, process {}{}, since {}\n", kMark, who, ::getpid(),
                     known ? fmt::format(" on {}", system.nodename) : std::string(), utc_now());
}

}  // namespace

RunLock::RunLock(const std::string& folder, const std::string& who) {
  const std::string path = folder + "/run.lock";
  file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644);
  if (file_ < 0) fail("{}: cannot be written ({})", path, std::strerror(errno));
  const int locked = ::flock(file_, LOCK_EX | LOCK_NB);
  const int error = locked == 0 ? 0 : errno;
  const std::string found = first_line(file_);
  if (error == EWOULDBLOCK) {
    close();
    fail(
        "{}: another run writes to this folder ({}); wait for its end, end it, or choose another "
        "--output-dir",
        folder, found.empty() ? std::string("it has not said which") : found);
  }
  if (error != 0) {
    note_ = fmt::format("{}: cannot be locked ({}): a second run in this folder is not noticed",
                        path, std::strerror(error));
  }
  // A run that was killed as it wrote has left a part.
  if (!found.starts_with(kMark) && !kMark.starts_with(found)) {
    close();
    fail("{}: was not written by qgrpo; move it, or choose another --output-dir", path);
  }
  const std::string text = description(who);
  const int reason = ::ftruncate(file_, 0) == 0 ? io::write_at(file_, text, 0) : errno;
  if (reason != 0) {
    close();
    fail("{}: cannot be written ({})", path, std::strerror(reason));
  }
}

RunLock::~RunLock() {
  // What cannot be emptied is overwritten by the next run.
  [[maybe_unused]] const int ignored = ::ftruncate(file_, 0);
  close();
}

void RunLock::close() {
  ::close(file_);
  file_ = -1;
}

}  // namespace qgrpo::train
