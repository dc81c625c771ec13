#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace qgrpo::io {

// What a file that is read whole may hold: a vocabulary's are the largest. What is longer is damaged
// or not what its name says.
inline constexpr std::size_t kMostFileBytes = std::size_t{1} << 30;
inline constexpr std::size_t kMostConfigBytes = std::size_t{64} << 20;

// The whole file, which must be a regular one (no pipe, device or folder) of at most `most` bytes:
// for all that a folder brings. Throws Error naming the path and what was found, or the system's
// reason; never waits for a writer.
std::string read_file(const std::string& path, std::size_t most = kMostFileBytes);
// The same for what a user names as input: a pipe and a terminal too, of any length.
std::string read_input(const std::string& path);

// Writes `content` to `path` so that a reader (or a crash) sees the old file or the whole new one:
// written to a neighbouring temporary file (PATH.tmp, which the next write removes where a crash has
// left one), synced, renamed, and the folder synced. Throws Error, with the old file as it was.
void write_file_atomically(const std::string& path, std::string_view content);
// The same for a content of several parts.
void write_file_atomically(const std::string& path, std::span<const std::string_view> parts);

// Puts the file or folder `from` in the place of `to`, beside it on the same file system, so that a
// crash leaves the earlier or the new one there, whole; then removes the earlier one. (A file system
// that cannot exchange two names, as some on networks, has neither for a moment: the earlier folder is
// then at FROM.old.) `from` is synced. Throws Error with `to` as it was, unless it names what else is.
void replace_path(const std::string& from, const std::string& to);

// Forces a file's (or folder's) content to the disk. Throws Error.
void sync_path(const std::string& path);

// A read-only memory-mapped regular file.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  // Tells the system that the pages are not needed for now (they are read again on the next
  // access).
  void drop_pages() const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace qgrpo::io
