#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "hub/cache.h"
#include "hub/http.h"

// Fetching a repository, or parts of it, into the cache.
namespace qgrpo::hub {

struct PullProgress {
  std::string file;        // at work; empty: a message instead
  std::uint64_t done = 0;  // bytes of all files, those included that were there before
  std::uint64_t total = 0;
  std::string message;
};

struct PullOptions {
  // Shell patterns over whole paths (* matches a slash too, a folder's name with a slash at its end
  // all below it); empty: all files.
  std::vector<std::string> include;
  std::vector<std::string> exclude;
  // Chooses among the files that the patterns leave, e.g. model_files(); empty: all.
  std::function<std::vector<RepoFile>(const std::vector<RepoFile>&)> choose;
  std::function<void(const PullProgress&)> progress;
};

struct PullResult {
  std::string folder;  // the snapshot
  std::string commit;
  std::size_t files = 0;      // that were asked for
  std::uint64_t bytes = 0;    // of all of them
  std::uint64_t fetched = 0;  // of these, what came over the network now
};

// Fetches what is missing. A commit whose files are all in the cache is found there without a
// request; with settings().offline nothing else is. Each file is checked against its SHA-256 (LFS)
// or git SHA-1 before it gets its name; a broken-off download goes on where it ended. Throws Error:
// what explain() says, no match for the patterns, a full disk, a file whose checksum stays wrong.
PullResult pull(Http& http, const Repo& repo, const PullOptions& options);

// The repository and commit of a folder snapshots/COMMIT of a cache, as OWNER/NAME@COMMIT; empty
// for other folders.
std::string snapshot_name(const std::string& folder);

}  // namespace qgrpo::hub
