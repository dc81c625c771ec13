#include "train/run/log_file.h"

#include <algorithm>
#include <filesystem>

#include "model/ops/error.h"

namespace qgrpo::train {
namespace {

// Where the last whole line within the first `limit` bytes of a file ends.
std::uint64_t end_of_lines(const std::string& path, std::uint64_t limit) {
  std::ifstream file(path, std::ios::binary);
  for (; limit > 0; --limit) {
    file.seekg(static_cast<std::streamoff>(limit - 1));
    if (file.get() == '\n') break;
  }
  return limit;
}

}  // namespace

LogFile::LogFile(std::string path, std::uint64_t offset) : path_(std::move(path)) {
  std::error_code error;
  if (std::filesystem::exists(path_)) {
    const std::uint64_t found = std::filesystem::file_size(path_, error);
    if (!error) {
      size_ = end_of_lines(path_, std::min(found, offset));
      if (found > size_) std::filesystem::resize_file(path_, size_, error);
    }
    if (error) fail("{}: cannot be cut back to {} bytes ({})", path_, offset, error.message());
  }
  file_.open(path_, std::ios::app | std::ios::binary);
  require(file_.good(), "{}: cannot be opened for writing", path_);
}

void LogFile::append(const std::string& line) {
  file_ << line << '\n';
  file_.flush();
  require(file_.good(), "{}: cannot be written; is the disk full?", path_);
  size_ += line.size() + 1;
}

}  // namespace qgrpo::train
