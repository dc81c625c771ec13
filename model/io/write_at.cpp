#include "model/io/write_at.h"

#include <unistd.h>

#include <cerrno>

namespace qgrpo::io {

int write_at(int file, std::string_view text, std::int64_t offset) {
  while (!text.empty()) {
    const ssize_t wrote = ::pwrite(file, text.data(), text.size(), static_cast<off_t>(offset));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return errno;
    if (wrote == 0) return EIO;  // not of a regular file
    text.remove_prefix(static_cast<std::size_t>(wrote));
    offset += wrote;
  }
  return 0;
}

}  // namespace qgrpo::io
