#include "model/io/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "model/io/notes.h"
#include "model/ops/error.h"

namespace qgrpo::io {
namespace {

// A file descriptor that closes itself.
class Descriptor {
 public:
  Descriptor(const std::string& path, int flags, mode_t mode = 0)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC, mode)) {}
  ~Descriptor() { close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }
  // 0, or why what was written may be lost.
  int close() {
    const int fd = std::exchange(fd_, -1);
    return fd < 0 || ::close(fd) == 0 ? 0 : errno;
  }

 private:
  int fd_;
};

struct stat kind_of(const Descriptor& file, const std::string& path) {
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) fail("{}: cannot be read ({})", path, std::strerror(errno));
  if (S_ISDIR(info.st_mode)) fail("{}: is a folder, expected a file", path);
  return info;
}

// Its size. An open of a pipe waits for a writer unless it is told not to (O_NONBLOCK).
std::size_t regular_file_size(const Descriptor& file, const std::string& path) {
  if (!file.ok() && errno == ENXIO) fail("{}: is a socket or device, expected a file", path);
  if (!file.ok()) fail("{}: cannot be opened ({})", path, std::strerror(errno));
  const struct stat info = kind_of(file, path);
  if (S_ISFIFO(info.st_mode)) fail("{}: is a pipe, expected a file", path);
  if (!S_ISREG(info.st_mode)) fail("{}: is a device, expected a file", path);
  return static_cast<std::size_t>(info.st_size);
}

// What is left of the file, at most `most` bytes: one that grows, or whose size the system does not
// say (/proc), is held to them too.
std::string read_rest(const Descriptor& file, const std::string& path, std::size_t most) {
  std::string content;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t n = ::read(file.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("{}: cannot be read ({})", path, std::strerror(errno));
    if (n == 0) return content;
    if (static_cast<std::size_t>(n) > most - content.size())
      fail("{}: holds more than {} MiB, the most that is read of such a file", path, most >> 20);
    content.append(buffer, n);
  }
}

}  // namespace

std::string read_file(const std::string& path, std::size_t most) {
  const Descriptor file(path, O_RDONLY | O_NONBLOCK);
  const std::size_t size = regular_file_size(file, path);
  if (size > most) {
    fail("{}: holds {} bytes, more than the {} MiB that are read of such a file", path, size,
         most >> 20);
  }
  return read_rest(file, path, most);
}

std::string read_input(const std::string& path) {
  const Descriptor file(path, O_RDONLY);
  if (!file.ok()) fail("{}: cannot be opened ({})", path, std::strerror(errno));
  kind_of(file, path);
  return read_rest(file, path, SIZE_MAX);
}

void write_file_atomically(const std::string& path, std::string_view content) {
  write_file_atomically(path, std::span(&content, 1));
}

namespace {

// All parts, to the disk. 0, or the system's reason.
int write_parts(int file, std::span<const std::string_view> parts) {
  for (std::string_view rest : parts) {
    while (!rest.empty()) {
      const ssize_t n = ::write(file, rest.data(), rest.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno;
      rest.remove_prefix(static_cast<std::size_t>(n));
    }
  }
  return ::fsync(file) == 0 ? 0 : errno;
}

std::string folder_of(const std::string& path) {
  const auto parent = std::filesystem::path(path).parent_path();
  return parent.empty() ? std::string(".") : parent.string();
}

void rename_path(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0)
    fail("{}: cannot be renamed to {} ({})", from, to, std::strerror(errno));
}

// What was replaced: it does no harm where it is.
void remove_replaced(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error)
    note(fmt::format("{}: cannot be removed ({}); it is no longer needed", path, error.message()));
}

}  // namespace

void write_file_atomically(const std::string& path, std::span<const std::string_view> parts) {
  const std::string temporary = path + ".tmp";
  const auto stop = [&](int reason, const char* hint) {
    ::unlink(temporary.c_str());
    fail("{}: cannot be written ({}){}", path, std::strerror(reason), hint);
  };
  Descriptor file(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (!file.ok()) fail("{}: cannot be written ({})", temporary, std::strerror(errno));
  int reason = write_parts(file.get(), parts);
  const int closed = file.close();
  if (reason == 0) reason = closed;
  if (reason != 0) stop(reason, "; free some space or choose another folder");
  if (::rename(temporary.c_str(), path.c_str()) != 0) stop(errno, "");
  sync_path(folder_of(path));
}

void replace_path(const std::string& from, const std::string& to) {
  std::error_code error;
  if (!std::filesystem::is_directory(to, error) || std::filesystem::is_empty(to, error)) {
    rename_path(from, to);
    return sync_path(folder_of(to));
  }
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) {
    sync_path(folder_of(to));
    return remove_replaced(from);
  }
  if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
    fail("{}: cannot be put in the place of {} ({})", from, to, std::strerror(errno));
  const std::string earlier = from + ".old";
  std::filesystem::remove_all(earlier, error);
  rename_path(to, earlier);
  if (::rename(from.c_str(), to.c_str()) != 0) {
    const int reason = errno;
    rename_path(earlier, to);
    fail("{}: cannot be renamed to {} ({})", from, to, std::strerror(reason));
  }
  sync_path(folder_of(to));
  remove_replaced(earlier);
}

void sync_path(const std::string& path) {
  Descriptor file(path, O_RDONLY);
  if (!file.ok()) fail("{}: cannot be opened ({})", path, std::strerror(errno));
  // Some file systems cannot sync a folder and say EINVAL; there is nothing more to do then.
  if (::fsync(file.get()) != 0 && errno != EINVAL) {
    fail("{}: cannot be synced ({})", path, std::strerror(errno));
  }
}

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const Descriptor file(path, O_RDONLY | O_NONBLOCK);
  size_ = regular_file_size(file, path);
  if (size_ == 0) return;
  void* mapping = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (mapping == MAP_FAILED) fail("{}: cannot be mapped ({})", path, std::strerror(errno));
  data_ = static_cast<const std::byte*>(mapping);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::drop_pages() const {
  if (data_ != nullptr) ::madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED);
}

}  // namespace qgrpo::io
