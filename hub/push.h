#pragma once

#include <functional>
#include <string>
#include <vector>

#include "hub/http.h"
#include "hub/pull.h"
#include "hub/push_files.h"

// Sending a folder to a repository.
namespace qgrpo::hub {

struct PushOptions {
  std::vector<std::string> include;  // as in PullOptions
  std::vector<std::string> exclude;
  std::string message;        // of the commit; empty: one that names the folder
  bool private_repo = false;  // where the repository is made now
  bool dry_run = false;       // list, and send nothing
  // Makes the README.md of a folder that has none, unless --include or --exclude leave it out; empty: none.
  std::function<std::string(const std::string& folder)> card = {};
  // What will be sent, before anything is.
  std::function<void(const PushSelection&)> listed = {};
  std::function<void(const PullProgress&)> progress;
};

struct PushResult {
  std::string url;  // of the commit; empty: nothing had changed
  std::string commit;
  std::size_t files = 0;    // of the folder
  std::size_t changed = 0;  // that the commit holds
  std::uint64_t sent = 0;   // bytes of large files that were sent; the Hub had the rest
};

// Makes the repository where it does not exist, sends the large files (LFS) that the Hub does not
// have, then makes one commit of all files that differ: it appears whole or not at all. Nothing
// that the repository has and the folder has not is deleted. Which files: push_files(). A dry run
// takes neither a token nor the network. Throws Error.
PushResult push(Http& http, const Repo& repo, const std::string& folder,
                const PushOptions& options);

}  // namespace qgrpo::hub
