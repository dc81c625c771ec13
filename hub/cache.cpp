#include "hub/cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>

#include "hub/digest.h"
#include "model/io/file.h"
#include "model/io/json.h"
#include "model/ops/error.h"

namespace qgrpo::hub {
namespace {

namespace fs = std::filesystem;
constexpr std::int64_t kTreeFormat = 1;
constexpr std::size_t kCommitDigits = 40;

void make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) {
    fail("{}: cannot be made ({}); HF_HUB_CACHE or HF_HOME names another place for the cache",
         path.string(), error.message());
  }
}

std::string trim_end(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' '))
    text.pop_back();
  return text;
}

std::string text_or_empty(const io::JsonValue& object, const char* key) {
  const auto value = object.find(key);
  return value && !value->is_null() ? value->as_string() : "";
}

}  // namespace

RepoCache::RepoCache(const Settings& settings, const Repo& repo)
    : cache_(settings.cache), name_(repo.folder()), folder_(cache_ + "/" + name_) {}

std::string RepoCache::lock_path(const std::string& etag) const {
  return cache_ + "/.locks/" + name_ + "/" + etag + ".lock";
}

std::optional<std::string> RepoCache::commit_of(const std::string& revision) const {
  if (is_hex(revision, kCommitDigits)) return revision;
  const std::string path = folder_ + "/refs/" + revision;
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return std::nullopt;
  const std::string commit = trim_end(io::read_file(path));
  if (!is_hex(commit, kCommitDigits)) return std::nullopt;  // damaged: asked for anew
  return commit;
}

void RepoCache::set_ref(const std::string& revision, const std::string& commit) const {
  if (revision == commit || commit_of(revision) == commit) return;
  const fs::path path = fs::path(folder_) / "refs" / revision;
  make_folder(path.parent_path());
  write_shared(path.string(), commit);
}

std::optional<std::vector<RepoFile>> RepoCache::files_of(const std::string& commit) const {
  const std::string path = folder_ + "/trees/" + commit + ".json";
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return std::nullopt;
  try {
    io::JsonDocument document;
    const io::JsonValue root = document.parse_file(path);
    if (root.at("format_version").as_int() != kTreeFormat) return std::nullopt;
    std::vector<RepoFile> files;
    for (const auto& [name, info] : root.at("files").as_object()) {
      RepoFile file;
      file.path = name;
      file.size = static_cast<std::uint64_t>(info.at("size").as_int());
      file.blob_id = info.at("blob_id").as_string();
      file.lfs_sha256 = text_or_empty(info, "lfs_sha256");
      file.xet_hash = text_or_empty(info, "xet_hash");
      check_repo_path(file.path, path);
      if (!is_hex(file.etag(), file.lfs_sha256.empty() ? 40 : 64)) return std::nullopt;
      files.push_back(std::move(file));
    }
    return files;
  } catch (const Error&) {
    return std::nullopt;  // damaged: listed anew
  }
}

void RepoCache::set_files(const std::string& commit, const std::vector<RepoFile>& files) const {
  io::JsonWriter w;
  w.begin_object();
  w.member("format_version", kTreeFormat);
  w.key("files");
  w.begin_object();
  for (const RepoFile& file : files) {
    w.key(file.path);
    w.begin_object();
    w.member("size", static_cast<std::int64_t>(file.size));
    w.member("blob_id", file.blob_id);
    if (!file.lfs_sha256.empty()) {
      w.member("lfs_sha256", file.lfs_sha256);
      w.member("lfs_size", static_cast<std::int64_t>(file.size));
    }
    if (!file.xet_hash.empty()) w.member("xet_hash", file.xet_hash);
    w.end_object();
  }
  w.end_object();
  w.end_object();
  make_folder(folder_ + "/trees");
  write_shared(folder_ + "/trees/" + commit + ".json", w.str());
}

bool RepoCache::has(const std::string& commit, const RepoFile& file) const {
  std::error_code error;
  const auto size = fs::file_size(snapshot(commit) + "/" + file.path, error);
  return !error && size == file.size;
}

void RepoCache::link(const std::string& commit, const RepoFile& file) const {
  const fs::path pointer = fs::path(snapshot(commit)) / file.path;
  make_folder(pointer.parent_path());
  const fs::path target =
      (fs::path(folder_) / "blobs" / file.etag()).lexically_relative(pointer.parent_path());
  // Beside it and renamed, so that a reader never finds the name missing.
  const std::string temporary = pointer.string() + ".tmp";
  unlink(temporary.c_str());
  if (symlink(target.c_str(), temporary.c_str()) != 0 ||
      rename(temporary.c_str(), pointer.c_str()) != 0) {
    const int reason = errno;
    unlink(temporary.c_str());
    fail("{}: the link to the downloaded file cannot be made ({})", pointer.string(),
         std::strerror(reason));
  }
}

void RepoCache::write_shared(const std::string& path, std::string_view content) const {
  const FileLock lock(cache_ + "/.locks/qgrpo.lock", {}, {});
  io::write_file_atomically(path, content);
}

void RepoCache::create() const {
  make_folder(folder_ + "/blobs");
  make_folder(folder_ + "/refs");
  const std::string tag = cache_ + "/CACHEDIR.TAG";
  std::error_code ignored;
  if (!fs::exists(tag, ignored)) {
    write_shared(tag,
                 "Signature: 8a477f597d28d172789f06886806bc55\n"
                 "# Downloaded files of the Hub; they can be fetched again.\n");
  }
}

FileLock::FileLock(const std::string& path, const std::function<void()>& waiting,
                   const std::function<bool()>& stopped) {
  make_folder(fs::path(path).parent_path());
  bool told = false;
  for (;;) {
    descriptor_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0664);
    if (descriptor_ < 0) fail("{}: cannot be made ({})", path, std::strerror(errno));
    while (flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR) {
        const int reason = errno;
        close(descriptor_);
        fail("{}: cannot be locked ({})", path, std::strerror(reason));
      }
      if (!told && waiting) waiting();
      told = true;
      if (stopped && stopped()) {
        close(descriptor_);
        fail("interrupted while another download was at work");
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    // Who held it may have removed the file: then this lock is on a file that nobody else finds.
    struct stat mine {
    }, named{};
    if (fstat(descriptor_, &mine) == 0 && stat(path.c_str(), &named) == 0 &&
        mine.st_ino == named.st_ino && mine.st_dev == named.st_dev) {
      return;
    }
    close(descriptor_);
  }
}

FileLock::~FileLock() {
  flock(descriptor_, LOCK_UN);
  close(descriptor_);
}

}  // namespace qgrpo::hub
