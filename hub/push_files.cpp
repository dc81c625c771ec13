#include "hub/push_files.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "hub/patterns.h"
#include "hub/settings.h"
#include "model/io/paths.h"
#include "model/io/utf8.h"
#include "model/ops/error.h"

namespace qgrpo::hub {
namespace {

namespace fs = std::filesystem;

// Names of files with keys, passwords and tokens. Of a pair of keys the public one may go.
constexpr std::array kSecrets = {
    ".env",
    "*.env",
    ".env.*",
    ".netrc",
    "_netrc",
    "netrc",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "*.ppk",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_ecdsa_sk",
    "id_ed25519_sk",
    "token",
    "token.txt",
    "*_token",
    "*_token.txt",
    "tokens.txt",
    "*.token",
    "hf_token*",
    "stored_tokens",
    "credentials",
    "credentials.*",
    ".htpasswd",
    ".pypirc",
    ".npmrc",
    ".git-credentials",
    "*.secret",
    "secrets.*",
    "secret.*",
    "secrets",
    "service_account*.json",
    "client_secret*.json",
};

bool looks_secret(const std::string& name) {
  return std::any_of(kSecrets.begin(), kSecrets.end(), [&](const char* pattern) {
    return fnmatch(pattern, name.c_str(), FNM_CASEFOLD) == 0;
  });
}

// The records that a run keeps of the machine it ran on: the host's name, folders, the whole command.
bool tells_of_machine(const fs::path& path) {
  const std::string name = path.filename().string();
  if (name == "run.json" || name == "run.lock" || name.starts_with("events.out.tfevents."))
    return true;
  std::error_code ignored;
  return name == "config.toml" && fs::exists(path.parent_path() / "run.json", ignored);
}

bool is_within(const fs::path& path, const fs::path& folder) {
  const auto [end, ignored] = std::mismatch(folder.begin(), folder.end(), path.begin(), path.end());
  return end == folder.end();
}

class Walk {
 public:
  Walk(const std::string& folder, const std::vector<std::string>& include,
       const std::vector<std::string>& exclude)
      : folder_(folder), include_(include), exclude_(exclude), root_(fs::canonical(folder)) {}

  PushSelection run() {
    enter(folder_, "");
    std::sort(chosen_.files.begin(), chosen_.files.end(),
              [](const PushFile& a, const PushFile& b) { return a.path < b.path; });
    std::sort(chosen_.kept.begin(), chosen_.kept.end());
    return std::move(chosen_);
  }

 private:
  void enter(const fs::path& folder, const std::string& prefix) {
    const fs::path real = fs::canonical(folder);
    if (std::find(inside_.begin(), inside_.end(), real) != inside_.end()) {
      if (!include_.empty()) return;  // what the patterns choose there has another name
      fail(
          "{}: the link {} leads to a folder that it lies in; remove it, or leave it out with "
          "--exclude",
          folder_, prefix);
    }
    inside_.push_back(real);
    for (const auto& entry : fs::directory_iterator(folder)) {
      const std::string name = entry.path().filename().string();
      visit(entry, name, prefix.empty() ? name : prefix + "/" + name);
    }
    inside_.pop_back();
  }

  void visit(const fs::directory_entry& entry, const std::string& name, const std::string& path) {
    const bool named = std::find(include_.begin(), include_.end(), path) != include_.end();
    if (name.starts_with('.') && name != ".gitattributes" && !named) return;
    if (name.ends_with(".tmp") || name.ends_with(".incomplete")) return;
    if (matches_any(exclude_, path)) return;
    std::error_code ignored;
    const bool is_folder = entry.is_directory(ignored);
    if (is_folder && matches_any(exclude_, path + "/")) return;
    const bool wanted = include_.empty() || matches_any(include_, path);
    if (entry.is_symlink() && (wanted || (is_folder && matches_any(include_, path + "/"))))
      check_link(entry.path(), path);
    if (is_folder) {
      // One that leads out holds nothing that a pattern chose.
      if (!entry.is_symlink() || is_within(fs::canonical(entry.path()), root_))
        enter(entry.path(), path);
      return;
    }
    if (!wanted || !entry.is_regular_file(ignored)) return;
    require(utf8::is_valid(path), "{}: holds a file whose name is not UTF-8", folder_);
    check_repo_path(path, folder_);
    if (!named && looks_secret(name)) {
      fail(
          "{}: {} looks like a file with a key, password or token; leave it out with --exclude "
          "'{}', or, if it is to be sent, name it with --include '{}'",
          folder_, path, path, path);
    }
    if (!named && tells_of_machine(entry.path())) {
      chosen_.kept.push_back(path);
      return;
    }
    chosen_.files.push_back({path, entry.path().string(), entry.file_size()});
  }

  void check_link(const fs::path& link, const std::string& path) const {
    std::error_code error;
    const fs::path target = fs::canonical(link, error);
    if (error) {
      fail(
          "{}: the link {} leads to nothing that can be read ({}); remove it, or leave it out with "
          "--exclude '{}'",
          folder_, path, fs::read_symlink(link).string(), path);
    }
    if (is_within(target, root_)) return;
    fail(
        "{}: the link {} leads out of the folder, to {}; put a copy in its place (cp -rL copies "
        "a folder so), or leave it out with --exclude '{}'",
        folder_, path, target.string(), path);
  }

  const std::string& folder_;
  const std::vector<std::string>& include_;
  const std::vector<std::string>& exclude_;
  const fs::path root_;
  std::vector<fs::path> inside_;  // the folders that are being read, without links
  PushSelection chosen_;
};

}  // namespace

PushSelection push_files(const std::string& folder, const std::vector<std::string>& include,
                         const std::vector<std::string>& exclude) {
  require(io::is_folder(folder), "{}: is no folder; expected the folder to send", folder);
  PushSelection chosen = Walk(folder, include, exclude).run();
  require(!chosen.files.empty(),
          "{}: has no file to send (hidden ones and a run's own records stay at home)", folder);
  return chosen;
}

}  // namespace qgrpo::hub
