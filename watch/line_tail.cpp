#include "watch/line_tail.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace qgrpo::watch {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 20;
constexpr std::size_t kMark = 64;

class File {
 public:
  // Never waits for the writer of a pipe.
  explicit File(const std::string& path)
      : file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  ~File() {
    if (file_ >= 0) ::close(file_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  bool regular(struct stat& status) const {
    return file_ >= 0 && ::fstat(file_, &status) == 0 && S_ISREG(status.st_mode);
  }
  int descriptor() const { return file_; }

 private:
  int file_;
};

// Appends what the file has there, `bytes` at most.
std::size_t read_some(int file, std::uint64_t offset, std::size_t bytes, std::string& out) {
  const std::size_t before = out.size();
  out.resize(before + bytes);
  std::size_t got = 0;
  while (got < bytes) {
    const ssize_t n =
        ::pread(file, out.data() + before + got, bytes - got, static_cast<off_t>(offset + got));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    got += static_cast<std::size_t>(n);
  }
  out.resize(before + got);
  return got;
}

}  // namespace

// The same file with the same bytes before what is read next: one that was cut and has grown again
// has others there.
bool LineTail::same_file(int file, const struct stat& status) {
  if (status.st_dev != device_ || status.st_ino != inode_) return false;
  if (static_cast<std::uint64_t>(status.st_size) < position_) return false;
  std::string now;
  read_some(file, position_ - mark_.size(), mark_.size(), now);
  return now == mark_;
}

void LineTail::begin_anew(const struct stat& status) {
  device_ = status.st_dev;
  inode_ = status.st_ino;
  position_ = 0;
  left_out_ = 0;
  skipping_ = false;
  mark_.clear();
}

void LineTail::remember(std::string_view bytes) {
  mark_.append(bytes.substr(bytes.size() - std::min(bytes.size(), kMark)));
  if (mark_.size() > kMark) mark_.erase(0, mark_.size() - kMark);
}

// Gives the buffer's whole lines away. False: it has none.
bool LineTail::take_lines(const std::function<void(const Line&)>& on_line) {
  std::size_t begin = 0;
  for (std::size_t end = 0; (end = buffer_.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    const std::string_view text = std::string_view(buffer_).substr(begin, end - begin);
    if (skipping_ || text.size() > longest_) {
      skipping_ = false;
      ++left_out_;
    } else if (!text.empty()) {
      on_line({position_ + begin, text});
    }
  }
  if (begin == 0 && buffer_.size() > longest_) {
    skipping_ = true;
    begin = buffer_.size();
  }
  if (begin == 0) return false;
  remember(std::string_view(buffer_).substr(0, begin));
  position_ += begin;
  buffer_.erase(0, begin);
  return true;
}

LineTail::Result LineTail::poll(std::size_t budget, const std::function<void()>& on_replaced,
                                const std::function<void(const Line&)>& on_line) {
  Result result;
  const File file(path_);
  struct stat status {};
  const bool there = file.regular(status);
  if (!there || !same_file(file.descriptor(), status)) {
    result.replaced = position_ > 0;
    begin_anew(status);
    if (result.replaced) on_replaced();
    size_ = 0;
    if (!there) return result;
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
  buffer_.clear();
  std::size_t read = 0;
  bool took = false;
  while (position_ + buffer_.size() < size_) {
    if (took && read >= budget) {
      result.more = true;
      break;
    }
    const std::uint64_t at = position_ + buffer_.size();
    const std::size_t want = static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, size_ - at));
    const std::size_t got = read_some(file.descriptor(), at, want, buffer_);
    if (got == 0) break;
    read += got;
    took |= take_lines(on_line);
  }
  buffer_.clear();
  if (buffer_.capacity() > 2 * kChunk) buffer_.shrink_to_fit();
  return result;
}

std::string read_at(const std::string& path, std::uint64_t offset, std::size_t bytes) {
  const File file(path);
  struct stat status {};
  std::string out;
  if (!file.regular(status)) return out;
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (offset >= size) return out;
  read_some(file.descriptor(), offset,
            static_cast<std::size_t>(std::min<std::uint64_t>(bytes, size - offset)), out);
  return out;
}

}  // namespace qgrpo::watch
