#include "hub/pull.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "hub/answers.h"
#include "hub/digest.h"
#include "hub/patterns.h"
#include "model/io/paths.h"
#include "model/ops/error.h"

namespace qgrpo::hub {
namespace {

namespace fs = std::filesystem;
constexpr int kMostPages = 10000;
constexpr std::uint64_t kSpareBytes = std::uint64_t{16} << 20;  // of the disk, besides the files

std::string name_of(const Repo& repo) {
  return repo.revision == "main" ? repo.id : repo.id + "@" + repo.revision;
}

class Pull {
 public:
  Pull(Http& http, const Repo& repo, const PullOptions& options)
      : http_(http), repo_(repo), options_(options), cache_(http.settings(), repo) {}

  PullResult run() {
    result_.commit = resolve();
    result_.folder = cache_.snapshot(result_.commit);
    const std::vector<RepoFile> files = chosen(list());
    std::uint64_t missing = 0;
    for (const RepoFile& file : files) {
      result_.bytes += file.size;
      if (cache_.has(result_.commit, file)) {
        done_ += file.size;
      } else {
        missing += file.size - std::min(file.size, waiting_bytes(file));
      }
    }
    result_.files = files.size();
    if (done_ == result_.bytes && std::all_of(files.begin(), files.end(), [&](const RepoFile& f) {
          return cache_.has(result_.commit, f);
        })) {
      return result_;
    }
    if (http_.settings().offline) {
      const auto lost = std::find_if(files.begin(), files.end(), [&](const RepoFile& f) {
        return !cache_.has(result_.commit, f);
      });
      fail("{}: {} is not in the cache ({}), and HF_HUB_OFFLINE forbids to fetch it",
           name_of(repo_), lost->path, http_.settings().cache);
    }
    cache_.create();
    check_disk(missing);
    for (const RepoFile& file : files) fetch(file);
    return result_;
  }

 private:
  std::string api(const std::string& rest) const {
    return http_.settings().endpoint + repo_.api_path() + rest;
  }

  // The commit of the revision. Where the Hub cannot be reached, the cache's answer is as good as
  // there is, with a note; what the Hub refuses stays refused.
  std::string resolve() {
    const auto known = cache_.commit_of(repo_.revision);
    if (http_.settings().offline) {
      require(known.has_value(),
              "{}: is not in the cache ({}), and HF_HUB_OFFLINE forbids to ask the Hub",
              name_of(repo_), http_.settings().cache);
      return *known;
    }
    if (known && *known == repo_.revision && cache_.files_of(*known)) return *known;
    Request request;
    request.url = api("/revision/" + url_escape(repo_.revision, false));
    const Response response = known ? http_.once(request) : http_.send(request);
    if (!response.good()) {
      const std::string problem = explain(response, name_of(repo_), http_.settings());
      if (!known || !response.transient || !cache_.files_of(*known)) {
        if (known && response.transient) return resolved(http_.demand(request, name_of(repo_)));
        throw Error(problem);
      }
      tell(problem + "; using the commit " + known->substr(0, 10) + " of the cache");
      return *known;
    }
    return resolved(response);
  }

  std::string resolved(const Response& response) {
    const std::string commit = read_commit(response.body, response.url);
    new_commit_ = commit;
    return commit;
  }

  std::vector<RepoFile> list() {
    if (auto files = cache_.files_of(result_.commit)) {
      remember_ref();
      return *files;
    }
    require(!http_.settings().offline,
            "{}: its files have never been listed here, and HF_HUB_OFFLINE forbids to ask the Hub",
            name_of(repo_));
    std::vector<RepoFile> files;
    Request request;
    request.url = api("/tree/" + result_.commit + "?recursive=true&expand=false");
    for (int page = 0; !request.url.empty(); ++page) {
      require(page < kMostPages, "{}: the list of its files does not end", name_of(repo_));
      const Response response = http_.demand(request, name_of(repo_));
      for (RepoFile& file : read_files(response.body, response.url))
        files.push_back(std::move(file));
      request.url = next_page(response.headers);
      if (request.url.starts_with('/')) request.url = http_.settings().endpoint + request.url;
    }
    cache_.create();
    cache_.set_files(result_.commit, files);
    remember_ref();
    return files;
  }

  // refs/ is written once the commit's files are known: no reader finds a commit without them.
  void remember_ref() {
    if (!new_commit_.empty()) {
      cache_.create();
      cache_.set_ref(repo_.revision, new_commit_);
    }
  }

  std::vector<RepoFile> chosen(const std::vector<RepoFile>& all) const {
    std::vector<RepoFile> files;
    for (const RepoFile& file : all) {
      if (!options_.include.empty() && !matches_any(options_.include, file.path)) continue;
      if (matches_any(options_.exclude, file.path)) continue;
      files.push_back(file);
    }
    require(!files.empty() || all.empty(),
            "{}: none of its {} files matches --include/--exclude (one of them is {})",
            name_of(repo_), all.size(), all.empty() ? "" : all.front().path);
    if (!options_.choose) return files;
    try {
      return options_.choose(files);
    } catch (const Error& error) {
      fail("{}: {}", name_of(repo_), error.what());
    }
  }

  std::uint64_t waiting_bytes(const RepoFile& file) const {
    std::error_code error;
    for (const char* suffix : {"", ".incomplete"}) {
      const auto size = fs::file_size(cache_.blob(file.etag()) + suffix, error);
      if (!error) return size;
    }
    return 0;
  }

  void check_disk(std::uint64_t missing) const {
    std::error_code error;
    const auto space = fs::space(cache_.folder(), error);
    require(error || missing + kSpareBytes <= space.available,
            "{}: {} more bytes have to be fetched, but {} has only {} left: make room, or name "
            "another place with HF_HUB_CACHE",
            name_of(repo_), missing, http_.settings().cache, space.available);
  }

  void tell(const std::string& message) const {
    if (options_.progress) options_.progress({"", done_, result_.bytes, message});
  }

  void show(const RepoFile& file, std::uint64_t bytes) const {
    if (options_.progress) options_.progress({file.path, done_ + bytes, result_.bytes, ""});
  }

  static bool has_size(const std::string& path, std::uint64_t size) {
    std::error_code error;
    const auto found = fs::file_size(path, error);
    return !error && found == size;
  }

  void fetch(const RepoFile& file) {
    if (cache_.has(result_.commit, file)) return;
    const std::string blob = cache_.blob(file.etag());
    const FileLock lock(
        cache_.lock_path(file.etag()),
        [&] { tell(file.path + ": waiting for another download of it"); }, http_.stopped);
    if (!has_size(blob, file.size)) download(file, blob);
    cache_.link(result_.commit, file);
    done_ += file.size;
    show(file, 0);
  }

  // Gets the blob, whole and checked, under its name. The first bytes may be there from before;
  // where the sum is wrong after that, once more from the start.
  void download(const RepoFile& file, const std::string& blob) {
    const std::string path = blob + ".incomplete";
    for (int round = 0;; ++round) {
      const bool resumed = io::exists(path);
      transfer(file, path);
      Digest digest = blob_digest(file.etag(), file.size);
      add_file(digest, path);
      const std::string sum = digest.hex();
      if (sum == file.etag()) break;
      fs::remove(path);
      require(round == 0 && (resumed || http_.settings().retries > 0),
              "{}: {}: what came has the checksum {}, expected {}; the transfer or the server is "
              "broken",
              name_of(repo_), file.path, sum, file.etag());
      tell(file.path + ": wrong checksum, fetching it anew");
    }
    const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    const bool synced = descriptor >= 0 && fsync(descriptor) == 0;
    if (descriptor >= 0) close(descriptor);
    if (!synced || rename(path.c_str(), blob.c_str()) != 0)
      fail("{}: cannot be completed ({})", blob, std::strerror(errno));
  }

  // Appends to `path` until it has the file's size. Counts as a failed attempt only what brought no
  // byte.
  void transfer(const RepoFile& file, const std::string& path) {
    const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (descriptor < 0) fail("{}: cannot be written ({})", path, std::strerror(errno));
    struct Closer {
      int descriptor;
      ~Closer() { close(descriptor); }
    } const closer{descriptor};
    std::uint64_t have = static_cast<std::uint64_t>(lseek(descriptor, 0, SEEK_END));
    const auto restart = [&] {
      have = 0;
      require(ftruncate(descriptor, 0) == 0 && lseek(descriptor, 0, SEEK_SET) == 0,
              "{}: cannot be started anew", path);
    };
    if (have > file.size) restart();
    for (int attempt = 0; have < file.size;) {
      const std::uint64_t before = have;
      Request request;
      request.url = http_.settings().endpoint + repo_.files_path() + "/resolve/" + result_.commit +
                    "/" + url_escape(file.path, true);
      if (have > 0) request.headers.push_back(fmt::format("Range: bytes={}-", have));
      bool first = true, too_long = false;
      request.sink = [&](int status, std::string_view bytes) {
        // A server without ranges begins at the beginning.
        if (first && have > 0 && status != 206) restart();
        first = false;
        too_long = bytes.size() > file.size - have;
        if (too_long) return false;
        write_all(descriptor, bytes, path);
        have += bytes.size();
        result_.fetched += bytes.size();
        show(file, have);
        return true;
      };
      show(file, have);
      const Response response = http_.once(request);
      require(!too_long, "{}: {}: the server sends more than the {} bytes that it has",
              name_of(repo_), file.path, file.size);
      if (response.good() && have == file.size) return;
      if (response.status == 416 && have > 0) {
        restart();
      } else if (!response.good() && !response.transient) {
        throw Error(explain(response, name_of(repo_) + ": " + file.path, http_.settings()));
      }
      attempt = have > before ? 0 : attempt + 1;
      if (attempt > http_.settings().retries) {
        Response last = response;
        if (last.good()) last.problem = "the file ends early";
        throw Error(explain(last, name_of(repo_) + ": " + file.path, http_.settings()));
      }
      http_.pause(std::max(0, attempt - 1), response);
    }
  }

  static void write_all(int descriptor, std::string_view bytes, const std::string& path) {
    while (!bytes.empty()) {
      const ssize_t wrote = ::write(descriptor, bytes.data(), bytes.size());
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) {
        fail("{}: cannot be written ({}); what has come is kept: make room, then pull again", path,
             std::strerror(errno));
      }
      bytes.remove_prefix(static_cast<std::size_t>(wrote));
    }
  }

  Http& http_;
  const Repo& repo_;
  const PullOptions& options_;
  RepoCache cache_;
  PullResult result_;
  std::uint64_t done_ = 0;  // bytes of the files that are complete
  std::string new_commit_;  // that the Hub has named
};

}  // namespace

PullResult pull(Http& http, const Repo& repo, const PullOptions& options) {
  return Pull(http, repo, options).run();
}

std::string snapshot_name(const std::string& folder) {
  const fs::path path = fs::path(folder).lexically_normal();
  const fs::path clean = path.has_filename() ? path : path.parent_path();
  const std::string commit = clean.filename().string();
  const std::string name = clean.parent_path().parent_path().filename().string();
  constexpr std::string_view kStart = "models--";
  if (!is_hex(commit, 40) || clean.parent_path().filename() != "snapshots" ||
      !name.starts_with(kStart)) {
    return "";
  }
  std::string id = name.substr(kStart.size());
  if (const std::size_t split = id.find("--"); split != id.npos) id.replace(split, 2, "/");
  return id + "@" + commit;
}

}  // namespace qgrpo::hub
