#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace qgrpo::watch {

// Reads a log of lines that another process writes: whole lines, each once, as they come. What stands
// behind the last line break is not read yet. A file that was cut or replaced (--resume,
// --overwrite-output-dir) is begun anew. Holds one line and a buffer of a megabyte at most.
class LineTail {
 public:
  struct Line {
    std::uint64_t offset = 0;  // of its first byte in the file
    std::string_view text;     // without its line break
  };
  struct Result {
    bool replaced = false;  // it was begun anew: all lines before are void
    bool more = false;      // the budget was used up: there is more to read
  };

  // Lines of more than `longest` bytes are left out and counted.
  explicit LineTail(std::string path, std::size_t longest = std::size_t{16} << 20)
      : path_(std::move(path)), longest_(longest) {}

  // Reads about `budget` bytes at most (at least one line, where there is one). on_replaced is called
  // before the lines of the new file. A file that is not there has no lines.
  Result poll(std::size_t budget, const std::function<void()>& on_replaced,
              const std::function<void(const Line&)>& on_line);

  const std::string& path() const { return path_; }
  std::uint64_t left_out() const { return left_out_; }  // lines that were too long
  std::uint64_t position() const { return position_; }  // what was read, in bytes
  std::uint64_t size() const { return size_; }          // of the file, as it was last seen

 private:
  bool same_file(int file, const struct stat& status);
  void begin_anew(const struct stat& status);
  void remember(std::string_view bytes);
  bool take_lines(const std::function<void(const Line&)>& on_line);

  std::string path_;
  std::size_t longest_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  std::uint64_t position_ = 0;  // of the first byte that is not read: the beginning of a line
  std::uint64_t size_ = 0;
  std::uint64_t left_out_ = 0;
  bool skipping_ = false;  // position_ is inside a line that is too long
  std::string buffer_;     // the file's bytes from position_ on
  std::string mark_;       // the file's last bytes before position_
};

// So many bytes of a file from an offset on; fewer where it ends before or cannot be read.
std::string read_at(const std::string& path, std::uint64_t offset, std::size_t bytes);

}  // namespace qgrpo::watch
