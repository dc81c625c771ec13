#pragma once

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

// Which call is broken, and how: the settings of disk_faults.cpp.
namespace qgrpo::test {

inline constexpr std::size_t kMostDescriptors = 4096;
inline constexpr int kFirstKept = 700;  // of the descriptors that this library keeps for itself

// The function that this library stands before.
template <typename Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

inline std::string variable(const char* name) {
  const char* const text = std::getenv(name);
  return text == nullptr ? "" : text;
}

enum class Mode { none, kill, kill_after, tear, power, cut_short, fail, fail_on };

struct Written {
  int descriptor;  // a copy, that outlives the program's
  off_t synced;    // the bytes that a power cut leaves
};

class Faults {
 public:
  Faults() {
    folder_ = variable("DISK_FAULTS_FOLDER");
    trace_ = next<int(const char*, int, ...)>("open")(
        variable("DISK_FAULTS_TRACE").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    at_ = std::atol(variable("DISK_FAULTS_AT").c_str());
    error_ = std::atoi(variable("DISK_FAULTS_ERRNO").c_str());
    static const std::map<std::string, Mode> kModes = {
        {"kill", Mode::kill},       {"kill-after", Mode::kill_after}, {"tear", Mode::tear},
        {"power", Mode::power},     {"short", Mode::cut_short},       {"fail", Mode::fail},
        {"fail-on", Mode::fail_on},
    };
    const auto mode = kModes.find(variable("DISK_FAULTS_MODE"));
    if (mode != kModes.end() && at_ > 0) mode_ = mode->second;
    for (const char* name : {"LD_PRELOAD", "DISK_FAULTS_FOLDER"}) unsetenv(name);
  }

  bool watches(const std::string& path) const {
    return !folder_.empty() && path.starts_with(folder_) &&
           (path.size() == folder_.size() || path[folder_.size()] == '/');
  }

  // The result of the call, or what stands for it. call(half): does it, a write for half its bytes.
  template <typename Call>
  auto run(const char* name, const std::string& path, bool takes_space, bool is_write,
           const Call& call) -> decltype(call(false)) {
    using Result = decltype(call(false));
    long number;
    {
      const std::lock_guard lock(mutex_);
      number = ++calls_;
      const std::string line = std::to_string(number) + " " + name + " " + path + "\n";
      static const auto write_next = next<ssize_t(int, const void*, std::size_t)>("write");
      static_cast<void>(write_next(trace_, line.data(), line.size()));
    }
    const bool space_only = error_ == ENOSPC || error_ == EDQUOT;
    if (mode_ == Mode::fail_on && number >= at_ && (takes_space || !space_only))
      return failed<Result>(name, call);
    if (number != at_) return call(false);
    switch (mode_) {
      case Mode::fail:
        return failed<Result>(name, call);
      case Mode::cut_short:
        return call(is_write);
      case Mode::kill_after:
        call(false);
        break;
      case Mode::tear:
        if (is_write) call(true);
        break;
      case Mode::power:
        cut_power();
        break;
      case Mode::kill:
        break;
      default:
        return call(false);
    }
    die();
  }

  // A descriptor that was opened for writing, and whether the file is a new or an emptied one.
  void opened(int descriptor, bool empty) {
    if (descriptor < 0 || static_cast<std::size_t>(descriptor) >= kMostDescriptors) return;
    watched_[static_cast<std::size_t>(descriptor)] = true;
    struct stat info {};
    if (mode_ != Mode::power || fstat(descriptor, &info) != 0) return;
    const std::lock_guard lock(mutex_);
    const auto [file, added] = written_.try_emplace({info.st_dev, info.st_ino}, Written{-1, 0});
    if (added) file->second.descriptor = fcntl(descriptor, F_DUPFD_CLOEXEC, kFirstKept);
    if (added || empty) file->second.synced = empty ? 0 : info.st_size;
  }
  void synced(int descriptor) {
    struct stat info {};
    if (mode_ != Mode::power || fstat(descriptor, &info) != 0) return;
    const std::lock_guard lock(mutex_);
    const auto file = written_.find({info.st_dev, info.st_ino});
    if (file != written_.end()) file->second.synced = info.st_size;
  }
  bool is_watched(int descriptor) const {
    return descriptor >= 0 && static_cast<std::size_t>(descriptor) < kMostDescriptors &&
           watched_[static_cast<std::size_t>(descriptor)];
  }
  void closed(int descriptor) { watched_[static_cast<std::size_t>(descriptor)] = false; }

 private:
  template <typename Result, typename Call>
  Result failed(const char* name, const Call& call) {
    // The descriptor is gone all the same.
    if (std::string_view(name) == "close") call(false);
    errno = error_;
    if constexpr (std::is_pointer_v<Result>) {
      return nullptr;
    } else {
      return -1;
    }
  }

  void cut_power() {
    static const auto cut = next<int(int, off_t)>("ftruncate");
    const std::lock_guard lock(mutex_);
    for (const auto& [inode, file] : written_) {
      struct stat info {};
      if (fstat(file.descriptor, &info) == 0 && info.st_size > file.synced)
        static_cast<void>(cut(file.descriptor, file.synced));
    }
  }

  [[noreturn]] static void die() {
    ::kill(getpid(), SIGKILL);
    for (;;) pause();
  }

  std::string folder_;
  int trace_ = -1;
  long at_ = 0;
  int error_ = 0;
  Mode mode_ = Mode::none;
  std::mutex mutex_;
  long calls_ = 0;
  std::array<std::atomic<bool>, kMostDescriptors> watched_{};
  std::map<std::pair<dev_t, ino_t>, Written> written_;
};

// Made at the first call, which may come before this library's own initialisers; never destroyed.
inline Faults& faults() {
  static Faults& instance = *new Faults;
  return instance;
}

}  // namespace qgrpo::test
