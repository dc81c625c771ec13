#include "export/pending_output.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "export/output.h"
#include "model/io/file.h"
#include "model/io/notes.h"
#include "model/io/paths.h"
#include "model/ops/error.h"

namespace qgrpo::exporting {
namespace {

namespace fs = std::filesystem;

bool is_exported_shard(const fs::path& path) {
  std::uint64_t size = 0;
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(&size), sizeof size);
  return file.good() && size == kSafetensorsHeaderRoom - 8;
}

constexpr std::array kNames = {"config.json",
                               "generation_config.json",
                               "model.safetensors.index.json",
                               "tokenizer.json",
                               "tokenizer_config.json",
                               "special_tokens_map.json",
                               "added_tokens.json",
                               "vocab.json",
                               "merges.txt",
                               "tokenizer.model",
                               "chat_template.json",
                               "chat_template.jinja",
                               "chat_templates",
                               "qgrpo_prompt.json",
                               "LICENSE",
                               "NOTICE"};

bool is_named_file(std::string_view name) {
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

bool is_shard_name(std::string_view name) {
  return name.starts_with("model") && name.ends_with(".safetensors");
}

// The first entry of a folder that no export wrote; "model.safetensors" where there is none of its
// weights; empty: an export wrote all of it.
std::string foreign_entry(const std::string& folder) {
  bool weights = false;
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    if (is_shard_name(name)) {
      if (!is_exported_shard(folder + "/" + name)) return name;
      weights = true;
    } else if (!is_named_file(name)) {
      return name;
    }
  }
  return weights ? "" : "model.safetensors";
}

// Refuses to replace what no export wrote.
void check_replaceable(const std::string& path, bool folder) {
  std::error_code error;
  if (!folder) {
    std::string magic(4, '\0');
    std::ifstream file(path, std::ios::binary);
    require(fs::is_empty(path, error) || (file.read(magic.data(), 4) && magic == "GGUF"),
            "{}: is no GGUF file, so it is not replaced; choose another --output", path);
    return;
  }
  require(fs::exists(path + "/config.json", error),
          "{}: holds no model (no config.json), so it is not replaced; choose another --output",
          path);
  const std::string foreign = foreign_entry(path);
  require(foreign.empty(),
          "{}: {} was not written by an export, so the folder is not replaced; move it, or choose "
          "another --output",
          path, foreign);
}

// ---------------------------------------------------------------- what a killed export left

// A lock (flock) on a file or folder; nobody has it once its process is gone.
class Lock {
 public:
  explicit Lock(const std::string& path)
      : file_(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC)) {}
  ~Lock() {
    if (file_ >= 0) ::close(file_);
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  bool take() const { return file_ >= 0 && ::flock(file_, LOCK_EX | LOCK_NB) == 0; }
  bool take_within(std::chrono::milliseconds limit) const {
    for (auto waited = std::chrono::milliseconds(0); !take(); waited += kPause) {
      if (file_ < 0 || errno != EWOULDBLOCK || waited >= limit) return false;
      std::this_thread::sleep_for(kPause);
    }
    return true;
  }
  int release() { return std::exchange(file_, -1); }

 private:
  static constexpr auto kPause = std::chrono::milliseconds(10);
  int file_;
};

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// Whether an export may have been writing it: by what is in it.
bool is_unfinished(const fs::path& path, bool folder) {
  std::error_code error;
  if (!folder) {
    std::array<char, 4> magic{};
    std::ifstream file(path, std::ios::binary);
    file.read(magic.data(), magic.size());
    const std::string_view read(magic.data(), static_cast<std::size_t>(file.gcount()));
    return fs::is_regular_file(fs::symlink_status(path, error)) &&
           (read.empty() || read == "GGUF" || read == std::string_view("\0\0\0\0", 4));
  }
  if (!fs::is_directory(fs::symlink_status(path, error))) return false;
  for (const auto& entry : fs::directory_iterator(path, error)) {
    const std::string whole = entry.path().filename().string();
    const std::string_view name =
        whole.ends_with(".tmp") ? std::string_view(whole).substr(0, whole.size() - 4) : whole;
    const bool shard = name.starts_with("shard-") && is_number(name.substr(6));
    if (!shard && !is_shard_name(name) && !is_named_file(name)) return false;
  }
  return !error;
}

// Removes what exports to `path` left that were killed: PATH.tmp-N, and PATH.tmp-N.old where the file
// system cannot exchange names, which is the earlier export and may have to go back to its place.
void remove_left_overs(const fs::path& parent, const std::string& path, bool folder) {
  const std::string start = fs::path(path).filename().string() + ".tmp-";
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(parent, error)) {
    if (entry.path().filename().string().starts_with(start)) found.push_back(entry.path());
  }
  // X.old before X: what it is taken for depends on nothing else.
  std::sort(found.rbegin(), found.rend());
  for (const fs::path& entry : found) {
    std::string number = entry.filename().string().substr(start.size());
    const bool earlier = number.ends_with(".old");
    if (earlier) number.resize(number.size() - 4);
    const Lock lock(entry.string());
    if (!is_number(number) || !is_unfinished(entry, folder) || !lock.take()) continue;
    if (earlier && !fs::exists(path, error)) {
      fs::rename(entry, path, error);
      if (!error)
        io::note(fmt::format(
            "{}: an export was killed while it replaced it; the earlier one is back", path));
    } else {
      fs::remove_all(entry, error);
    }
  }
}

// The nearest folder above `path` that is there.
fs::path nearest_folder(const std::string& path) {
  std::error_code error;
  fs::path folder = fs::absolute(path, error).parent_path();
  while (folder.has_relative_path() && !fs::exists(folder, error)) folder = folder.parent_path();
  return folder;
}

std::string without_slashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

void check_output_place(const std::string& path) {
  const std::string folder = nearest_folder(without_slashes(path)).string();
  if (::access((folder + "/.").c_str(), W_OK | X_OK) != 0)
    fail("--output {}: {} cannot be written ({})", path, folder, std::strerror(errno));
}

PendingOutput::PendingOutput(const std::string& path, bool folder, bool overwrite)
    : path_(without_slashes(path)) {
  require(!path_.empty(), "--output: found nothing, expected a {}", folder ? "folder" : "file");
  std::error_code error;
  const fs::path parent = fs::absolute(path_).parent_path();
  fs::create_directories(parent, error);
  if (error) fail("{}: cannot be made ({})", parent.string(), error.message());
  // One at a time looks for left-overs and begins: what has just begun is locked, then.
  const Lock beginning(parent.string());
  constexpr auto kPatience = std::chrono::seconds(5);
  if (beginning.take_within(kPatience)) remove_left_overs(parent, path_, folder);
  if (fs::exists(path_, error)) {
    const bool empty = fs::is_directory(path_, error) && fs::is_empty(path_, error);
    require(overwrite || (folder && empty),
            "{}: is there already; choose another --output, or replace it with --overwrite", path_);
    require(fs::is_directory(path_, error) == folder,
            "{}: is a {}, but this export makes a {}; choose another --output", path_,
            folder ? "file" : "folder", folder ? "folder" : "file");
    if (!empty) check_replaceable(path_, folder);
  }
  temporary_ = fmt::format("{}.tmp-{}", path_, ::getpid());
  require(!fs::exists(temporary_, error), "{}: is in the way; remove it", temporary_);
  const int made = folder
                       ? ::mkdir(temporary_.c_str(), 0777)
                       : ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (made < 0) fail("{}: cannot be made ({})", temporary_, std::strerror(errno));
  if (!folder) ::close(made);
  Lock lock(temporary_);
  lock.take();
  lock_ = lock.release();
}

PendingOutput::~PendingOutput() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(temporary_, ignored);
  if (lock_ >= 0) ::close(lock_);
}

void PendingOutput::commit() {
  io::sync_path(temporary_);
  io::replace_path(temporary_, path_);
  committed_ = true;
}

std::size_t PendingOutput::bytes() const {
  const std::string& at = committed_ ? path_ : temporary_;
  if (!io::is_folder(at)) return static_cast<std::size_t>(io::file_size(at));
  std::size_t total = 0;
  for (const auto& entry : fs::recursive_directory_iterator(at)) {
    if (entry.is_regular_file()) total += static_cast<std::size_t>(entry.file_size());
  }
  return total;
}

}  // namespace qgrpo::exporting
