#include "train/run/log_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "model/io/file.h"
#include "model/io/paths.h"
#include "model/ops/error.h"

namespace qgrpo::train {
namespace {

// Where the last whole line within the first `limit` bytes of a file ends.
std::uint64_t end_of_lines(const std::string& path, std::uint64_t limit) {
  const io::MappedFile file(path);
  const auto bytes = file.bytes().first(std::min<std::uint64_t>(limit, file.bytes().size()));
  const auto last = std::find(bytes.rbegin(), bytes.rend(), std::byte{'\n'});
  return static_cast<std::uint64_t>(bytes.rend() - last);
}

}  // namespace

LogFile::LogFile(std::string path, std::uint64_t offset) : path_(std::move(path)) {
  std::error_code error;
  if (io::exists(path_)) {
    const std::uint64_t found = std::filesystem::file_size(path_, error);
    if (!error) {
      size_ = end_of_lines(path_, offset);
      if (found > size_) std::filesystem::resize_file(path_, size_, error);
    }
    if (error) fail("{}: cannot be cut back to {} bytes ({})", path_, offset, error.message());
  }
  file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file_ < 0) fail("{}: cannot be opened for writing ({})", path_, std::strerror(errno));
}

LogFile::~LogFile() {
  if (file_ >= 0) ::close(file_);
}

LogFile::LogFile(LogFile&& other) noexcept
    : path_(std::move(other.path_)),
      file_(std::exchange(other.file_, -1)),
      size_(other.size_),
      unwritten_(std::move(other.unwritten_)),
      begun_(other.begun_),
      trouble_(std::move(other.trouble_)) {}

void LogFile::note_trouble(const char* what, int reason) {
  if (trouble_.empty())
    trouble_ = fmt::format("{}: cannot be {} ({})", path_, what, std::strerror(reason));
}

bool LogFile::write() {
  while (begun_ < unwritten_.size()) {
    const ssize_t taken = ::write(file_, unwritten_.data() + begun_, unwritten_.size() - begun_);
    if (taken < 0 && errno == EINTR) continue;
    if (taken <= 0) {
      note_trouble("written", taken < 0 ? errno : ENOSPC);
      break;
    }
    begun_ += static_cast<std::size_t>(taken);
  }
  const std::size_t newline = begun_ == 0 ? std::string::npos : unwritten_.rfind('\n', begun_ - 1);
  const std::size_t whole = newline == std::string::npos ? 0 : newline + 1;
  unwritten_.erase(0, whole);
  begun_ -= whole;
  size_ += whole;
  return unwritten_.empty();
}

bool LogFile::append(std::string_view lines) {
  unwritten_ += lines;
  if (!write()) return false;
  trouble_.clear();
  return true;
}

void LogFile::sync() {
  const bool written = write();
  if (written && ::fsync(file_) == 0) {
    trouble_.clear();
    return;
  }
  // Some file systems cannot sync and say EINVAL; there is nothing more to do then.
  if (written && errno == EINVAL) return;
  if (written) note_trouble("synced", errno);
  throw Error(trouble_);
}

std::string log_behind(const std::string& path, std::uint64_t bytes) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return "";
  const io::MappedFile file(path);
  if (file.bytes().size() <= bytes) return "";
  const auto rest = file.bytes().subspan(bytes);
  return {reinterpret_cast<const char*>(rest.data()), rest.size()};
}

std::string RunLogs::open(const std::string& output_dir, const std::string& name,
                          std::uint64_t offset, const std::string& unwritten) {
  const std::string path = output_dir + "/" + name;
  logs_.erase(name);
  LogFile& log = logs_.emplace(name, LogFile(path, offset)).first->second;
  const std::uint64_t found = log.size();
  log.append(unwritten);
  if (found == offset) return "";
  return fmt::format(
      "{}: found {} bytes of whole lines, expected {}: lines of steps before the checkpoint are "
      "missing and are not written again; if there is a copy of it, end the run and put it back",
      path, found, offset);
}

std::string RunLogs::append(const std::string& name, std::string_view lines) {
  LogFile& log = logs_.at(name);
  const bool before = log.trouble().empty();
  if (log.append(lines) || !before) return "";
  return log.trouble() + "; its lines are kept in memory until it takes them";
}

void RunLogs::sync() {
  std::string first;
  for (auto& [name, log] : logs_) {
    try {
      log.sync();
    } catch (const Error& error) {
      if (first.empty()) first = error.what();
    }
  }
  if (!first.empty()) throw Error(first);
}

std::map<std::string, std::string> RunLogs::unwritten() const {
  std::map<std::string, std::string> out;
  for (const auto& [name, log] : logs_) {
    if (!log.unwritten().empty()) out[name] = log.unwritten();
  }
  return out;
}

std::string RunLogs::trouble() const {
  for (const auto& [name, log] : logs_) {
    if (!log.trouble().empty()) return log.trouble();
  }
  return "";
}

}  // namespace qgrpo::train
