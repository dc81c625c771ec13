#pragma once

#include <cstdint>
#include <string>
#include <string_view>

// Where the Hub is, who asks, and where files are kept: the environment variables of Python's
// huggingface_hub, with the same defaults.
namespace qgrpo::hub {

struct Settings {
  std::string endpoint = "https://huggingface.co";  // HF_ENDPOINT; no slash at the end
  std::string cache;         // HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub
  std::string token;         // HF_TOKEN, else the file HF_TOKEN_PATH (HF_HOME/token); empty: nobody
  bool offline = false;      // HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE: the cache alone
  int connect_timeout = 10;  // seconds
  int stall_timeout = 30;    // seconds without a byte, after which a transfer counts as broken
  int retries = 5;           // after the first attempt, without any progress in between
  double retry_seconds = 1.0;  // before the first retry; doubles with each further one, up to 30
};

// Reads the environment. Throws Error naming the variable for an endpoint that is no http(s)
// address and for a token that would break a header.
Settings settings_from_environment();

// A repository as the command line names it: OWNER/NAME, or NAME alone (some old ones),
// and behind an @ a branch, a tag or a commit.
struct Repo {
  enum class Kind { model, dataset };

  std::string id;
  std::string revision = "main";
  Kind kind = Kind::model;

  // models--OWNER--NAME, datasets--OWNER--NAME: the folder's name in the cache.
  std::string folder() const;
  // Its addresses below an endpoint: "/api/models/ID", and "/ID" or "/datasets/ID" for its files.
  std::string api_path() const;
  std::string files_path() const;
};

// Throws Error with what is expected for a name that the Hub could not have.
Repo parse_repo(std::string_view text);
// Whether it has the form OWNER/NAME[@REVISION] of a repository and not of a path.
bool names_repo(std::string_view text);

// Throws Error for a path that a repository may not have: empty parts, "." and "..", backslashes,
// control characters, a slash in front: nothing may be written outside of the cache.
void check_repo_path(std::string_view path, std::string_view where);

// `text` with everything but unreserved characters (and, with keep_slashes, "/") as %XX.
std::string url_escape(std::string_view text, bool keep_slashes);

}  // namespace qgrpo::hub
