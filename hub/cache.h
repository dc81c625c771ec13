#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hub/settings.h"

// The cache's folders, shared with Python's huggingface_hub:
//   models--OWNER--NAME/blobs/ETAG            a file's content, named by its checksum
//   models--OWNER--NAME/blobs/ETAG.incomplete what has come of it so far
//   models--OWNER--NAME/refs/REVISION         the commit that a branch or tag had last
//   models--OWNER--NAME/snapshots/COMMIT/PATH -> ../../blobs/ETAG (relative)
//   models--OWNER--NAME/trees/COMMIT.json     the files of a commit
//   .locks/models--OWNER--NAME/ETAG.lock      held (flock) by the process that downloads
//   .locks/qgrpo.lock                         held by the process that writes one of the other files
// What a killed process has left (PATH.tmp) is removed by the next that writes PATH.
namespace qgrpo::hub {

// A file of a commit.
struct RepoFile {
  std::string path;
  std::uint64_t size = 0;
  std::string blob_id;     // git's SHA-1 of the file or of its LFS pointer
  std::string lfs_sha256;  // empty: no LFS file
  std::string xet_hash;    // kept for Python's sake

  const std::string& etag() const { return lfs_sha256.empty() ? blob_id : lfs_sha256; }
};

class RepoCache {
 public:
  RepoCache(const Settings& settings, const Repo& repo);

  const std::string& folder() const { return folder_; }
  std::string blob(const std::string& etag) const { return folder_ + "/blobs/" + etag; }
  std::string snapshot(const std::string& commit) const { return folder_ + "/snapshots/" + commit; }
  std::string lock_path(const std::string& etag) const;

  // The commit that a revision has here: itself, where it is one, or what refs/ says.
  std::optional<std::string> commit_of(const std::string& revision) const;
  void set_ref(const std::string& revision, const std::string& commit) const;

  // The files of a commit, as far as they have been listed before.
  std::optional<std::vector<RepoFile>> files_of(const std::string& commit) const;
  void set_files(const std::string& commit, const std::vector<RepoFile>& files) const;

  // Whether the snapshot has the file, whole.
  bool has(const std::string& commit, const RepoFile& file) const;
  // Makes snapshots/COMMIT/PATH lead to the blob.
  void link(const std::string& commit, const RepoFile& file) const;

  // Makes blobs/ and refs/, and marks the cache's top as one for backup programs. Throws Error.
  void create() const;

 private:
  // Several processes may write the same file at the same time.
  void write_shared(const std::string& path, std::string_view content) const;

  std::string cache_;
  std::string name_;
  std::string folder_;
};

// Holds a lock file as Python's filelock does; waits for who has it. `waiting` is called once
// before it waits; returns early by throwing what `stopped` leads to.
class FileLock {
 public:
  FileLock(const std::string& path, const std::function<void()>& waiting,
           const std::function<bool()>& stopped);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace qgrpo::hub
