#include "fuzz/target.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "model/io/notes.h"
#include "model/io/utf8.h"
#include "model/ops/error.h"
#include "softgpu/ptx/error.h"

namespace qgrpo::fuzz {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kLongestLine = 5000;  // bytes

void check_message(const std::string& message) {
  const std::string line = io::shown_line(message);
  check(!line.empty(), "an error says nothing");
  check(line.size() <= kLongestLine, "an error's line is too long");
  check(utf8::is_valid(line), "an error's line is not UTF-8");
  check(std::all_of(line.begin(), line.end(),
                    [](char c) { return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f; }),
        "an error's line holds a control character");
}

void write_whole(int descriptor, std::string_view content) {
  bool good = descriptor >= 0 && ftruncate(descriptor, 0) == 0;
  for (std::size_t at = 0; good && at < content.size();) {
    const ssize_t wrote =
        pwrite(descriptor, content.data() + at, content.size() - at, static_cast<off_t>(at));
    good = wrote > 0;
    at += good ? static_cast<std::size_t>(wrote) : 0;
  }
  check(good, "a file in memory cannot be written");
}

}  // namespace

std::vector<Target>& targets() {
  static std::vector<Target> all;
  return all;
}

void check(bool condition, std::string_view what) {
  if (!condition) throw Violation{std::string(what)};
}

bool run(const Target& target, std::string_view input) {
  static const bool quiet = [] {
    io::set_note_sink([](const std::string& text) { check_message(text); });
    return true;
  }();
  static_cast<void>(quiet);
  try {
    target.body(input);
    return true;
  } catch (const Error& error) {
    check_message(error.what());
  } catch (const softgpu::Error& error) {
    check_message(error.what());
  }
  return false;
}

std::vector<std::string_view> parts(std::string_view input, std::size_t most) {
  std::vector<std::string_view> out;
  while (out.size() + 1 < most) {
    const std::size_t end = input.find('\x1e');
    out.push_back(input.substr(0, end));
    input = end == std::string_view::npos ? std::string_view() : input.substr(end + 1);
  }
  out.push_back(input);
  return out;
}

MemoryFile::MemoryFile() : descriptor_(memfd_create("qgrpo-fuzz", MFD_CLOEXEC)) {
  path_ = "/proc/self/fd/" + std::to_string(descriptor_);
}
MemoryFile::~MemoryFile() {
  close(descriptor_);
}
void MemoryFile::set(std::string_view content) {
  write_whole(descriptor_, content);
}

Folder::Folder() {
  const bool memory = access("/dev/shm", W_OK) == 0;
  path_ = (memory ? std::string("/dev/shm") : fs::temp_directory_path().string()) +
          "/qgrpo-fuzz-XXXXXX";
  check(mkdtemp(path_.data()) != nullptr, "a folder in memory cannot be made");
}
Folder::~Folder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}
void Folder::set(const std::string& name, std::string_view content) {
  const int descriptor = open((path_ + "/" + name).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  write_whole(descriptor, content);
  close(descriptor);
}
void Folder::remove(const std::string& name) {
  unlink((path_ + "/" + name).c_str());
}
void Folder::set_parts(std::string_view input, const std::vector<std::string>& names) {
  const auto all = parts(input, names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (all[i].empty()) {
      remove(names[i]);
    } else {
      set(names[i], all[i]);
    }
  }
}

}  // namespace qgrpo::fuzz
