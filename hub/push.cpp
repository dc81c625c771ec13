#include "hub/push.h"

#include <stdlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>

#include "hub/digest.h"
#include "hub/patterns.h"
#include "hub/push_files.h"
#include "model/io/file.h"
#include "model/io/json.h"
#include "model/io/paths.h"
#include "model/ops/error.h"

namespace qgrpo::hub {
namespace {

constexpr std::size_t kFilesPerQuestion = 256;
constexpr std::size_t kSampleBytes = 512;
constexpr std::uint64_t kMostParts = 10000;

struct LocalFile : PushFile {
  bool lfs = false;
  std::string oid = {};  // SHA-256 for LFS, else git's SHA-1
};

std::string head_of(const LocalFile& file) {
  const io::MappedFile mapped(file.local);
  const auto bytes = mapped.bytes();
  return {reinterpret_cast<const char*>(bytes.data()), std::min(bytes.size(), kSampleBytes)};
}

// The README.md that is made for a folder without one: a file in the temporary folder, among those that are sent.
class MadeCard {
 public:
  MadeCard(const std::string& folder, const PushOptions& options, PushSelection& chosen) {
    constexpr const char* kCard = "README.md";
    const bool wanted = options.card && !io::exists(folder + "/" + kCard) &&
                        (options.include.empty() || matches_any(options.include, kCard)) &&
                        !matches_any(options.exclude, kCard);
    if (!wanted) return;
    const std::string text = options.card(folder);
    if (text.empty()) return;
    std::string place = (std::filesystem::temp_directory_path() / "qgrpo-card-XXXXXX").string();
    require(mkdtemp(place.data()) != nullptr, "{}: cannot be made ({})", place,
            std::strerror(errno));
    folder_ = place;
    const std::string path = folder_ + "/" + kCard;
    io::write_file_atomically(path, text);
    chosen.files.push_back({kCard, path, text.size()});
  }
  ~MadeCard() {
    std::error_code error;
    if (!folder_.empty()) std::filesystem::remove_all(folder_, error);
  }
  MadeCard(const MadeCard&) = delete;
  MadeCard& operator=(const MadeCard&) = delete;

 private:
  std::string folder_;
};

class Push {
 public:
  Push(Http& http, const Repo& repo, const std::string& folder, const PushOptions& options)
      : http_(http), repo_(repo), folder_(folder), options_(options) {}

  PushResult run() {
    require(options_.dry_run || !http_.settings().offline,
            "HF_HUB_OFFLINE forbids to send anything");
    require(
        options_.dry_run || !http_.settings().token.empty(),
        "{}: sending takes a token that may write (HF_TOKEN, or the file that Python's `hf auth "
        "login` makes)",
        repo_.id);
    PushSelection chosen = push_files(folder_, options_.include, options_.exclude);
    const MadeCard card(folder_, options_, chosen);
    if (options_.listed) options_.listed(chosen);
    result_.files = chosen.files.size();
    if (options_.dry_run) return result_;
    for (const PushFile& file : chosen.files) files_.push_back({file});
    make_repo();
    std::vector<LocalFile> changed;
    for (std::size_t at = 0; at < files_.size(); at += kFilesPerQuestion) {
      const std::size_t end = std::min(files_.size(), at + kFilesPerQuestion);
      ask_modes(std::span(files_).subspan(at, end - at), changed);
    }
    if (changed.empty()) return result_;
    send_large(changed);
    commit(changed);
    return result_;
  }

 private:
  std::string api(const std::string& rest) const {
    return http_.settings().endpoint + repo_.api_path() + rest;
  }

  Request post(const std::string& url, std::string body, const char* type = "application/json") {
    Request request;
    request.method = "POST";
    request.url = url;
    request.headers.push_back(std::string("Content-Type: ") + type);
    request.body = std::move(body);
    return request;
  }

  void make_repo() {
    Request ask;
    ask.url = api("");
    const Response info = http_.send(ask);
    if (info.good()) return;
    if (info.status != 404 && !(info.status == 401 && info.headers.contains("x-error-code") &&
                                info.headers.at("x-error-code") == "RepoNotFound")) {
      throw Error(explain(info, repo_.id, http_.settings()));
    }
    io::JsonWriter w;
    w.begin_object();
    const std::size_t slash = repo_.id.find('/');
    w.member("name", repo_.id.substr(slash == repo_.id.npos ? 0 : slash + 1));
    if (slash != repo_.id.npos) w.member("organization", repo_.id.substr(0, slash));
    w.member("type", "model");
    w.member("private", options_.private_repo);
    w.end_object();
    const Response made =
        http_.send(post(http_.settings().endpoint + "/api/repos/create", w.str()));
    // 409: another process has made it meanwhile.
    if (!made.good() && made.status != 409)
      throw Error(explain(made, repo_.id + " (making it)", http_.settings()));
  }

  // Which files are to be sent as LFS, and which the Hub has in this very form.
  void ask_modes(std::span<LocalFile> files, std::vector<LocalFile>& changed) {
    io::JsonWriter w;
    w.begin_object();
    w.key("files");
    w.begin_array();
    for (const LocalFile& file : files) {
      w.begin_object();
      w.member("path", file.path);
      w.member("sample", base64(file.size == 0 ? std::string() : head_of(file)));
      w.member("size", static_cast<std::int64_t>(file.size));
      w.end_object();
    }
    w.end_array();
    w.end_object();
    const std::string url = api("/preupload/" + url_escape(repo_.revision, false));
    const Response response = http_.demand(post(url, w.str()), repo_.id);
    io::JsonDocument document;
    const auto answer = document.parse(response.body, url);
    struct Mode {
      bool lfs = false, ignored = false;
      std::string oid;
    };
    std::map<std::string, Mode> modes;
    for (const auto& entry : answer.at("files").as_array()) {
      Mode& mode = modes[entry.at("path").as_string()];
      mode.lfs = entry.at("uploadMode").as_string_view() == "lfs";
      const auto ignored = entry.find("shouldIgnore");
      mode.ignored = ignored && ignored->is_bool() && ignored->as_bool();
      if (const auto oid = entry.find("oid"); oid && oid->is_string()) mode.oid = oid->as_string();
    }
    for (LocalFile& file : files) {
      const auto found = modes.find(file.path);
      require(found != modes.end(), "{}: says nothing about {}", url, file.path);
      if (found->second.ignored) continue;
      file.lfs = found->second.lfs && file.size > 0;  // LFS knows no empty files
      tell("reading " + file.path);
      file.oid = file.lfs ? file_sha256(file.local) : git_blob_sha1(file.local);
      if (file.oid != found->second.oid) changed.push_back(file);
    }
  }

  void tell(const std::string& message) const {
    if (options_.progress) options_.progress({message, sent_, total_, ""});
  }

  void send_large(const std::vector<LocalFile>& files) {
    io::JsonWriter w;
    std::map<std::string, const LocalFile*> by_oid;
    w.begin_object();
    w.member("operation", "upload");
    w.key("transfers");
    w.value(std::vector<std::string>{"basic", "multipart"});
    w.member("hash_algo", "sha256");
    w.key("ref");
    w.begin_object();
    w.member("name", repo_.revision);
    w.end_object();
    w.key("objects");
    w.begin_array();
    for (const LocalFile& file : files) {
      if (!file.lfs || !by_oid.emplace(file.oid, &file).second) continue;
      w.begin_object();
      w.member("oid", file.oid);
      w.member("size", static_cast<std::int64_t>(file.size));
      w.end_object();
      total_ += file.size;
    }
    w.end_array();
    w.end_object();
    if (by_oid.empty()) return;
    const std::string url =
        http_.settings().endpoint + "/" + repo_.id + ".git/info/lfs/objects/batch";
    Request request = post(url, w.str(), "application/vnd.git-lfs+json");
    request.headers.push_back("Accept: application/vnd.git-lfs+json");
    const Response response = http_.demand(request, repo_.id);
    io::JsonDocument document;
    for (const auto& object : document.parse(response.body, url).at("objects").as_array()) {
      const auto found = by_oid.find(object.at("oid").as_string());
      require(found != by_oid.end(), "{}: answers for a file that was not asked for", url);
      send_one(object, *found->second);
      by_oid.erase(found);
    }
    require(by_oid.empty(), "{}: says nothing about {}", url,
            by_oid.empty() ? "" : by_oid.begin()->second->path);
  }

  void send_one(const io::JsonValue& object, const LocalFile& file) {
    if (const auto error = object.find("error"); error && error->is_object()) {
      fail("{}: {}: the Hub refuses it ({})", repo_.id, file.path,
           error->at("message").as_string());
    }
    const auto actions = object.find("actions");
    const auto upload = actions && actions->is_object() ? actions->find("upload") : std::nullopt;
    if (!upload || upload->is_null()) {  // it has the content
      sent_ += file.size;
      return;
    }
    const std::string href = upload->at("href").as_string();
    std::vector<std::pair<std::string, std::string>> header;
    if (const auto given = upload->find("header"); given && given->is_object()) {
      for (const auto& [name, value] : given->as_object()) {
        header.emplace_back(name,
                            value.is_string() ? value.as_string() : std::to_string(value.as_int()));
      }
    }
    const bool in_parts = std::any_of(header.begin(), header.end(),
                                      [](const auto& h) { return h.first == "chunk_size"; });
    if (in_parts) {
      send_parts(file, href, header);
    } else {
      Request request = part_of(file, href, 0, file.size);
      for (const auto& [name, value] : header) request.headers.push_back(name + ": " + value);
      http_.demand(request, repo_.id + ": " + file.path);
    }
    sent_ += file.size;
    result_.sent += file.size;
    if (const auto verify = actions->find("verify"); verify && verify->is_object()) {
      io::JsonWriter w;
      w.begin_object();
      w.member("oid", file.oid);
      w.member("size", static_cast<std::int64_t>(file.size));
      w.end_object();
      http_.demand(post(verify->at("href").as_string(), w.str(), "application/vnd.git-lfs+json"),
                   repo_.id + ": " + file.path + " (checking it)");
    }
  }

  Request part_of(const LocalFile& file, const std::string& url, std::uint64_t offset,
                  std::uint64_t bytes) const {
    Request request;
    request.method = "PUT";
    request.url = url;
    request.file = file.local;
    request.file_offset = offset;
    request.file_bytes = bytes;
    request.authorized = false;  // the address itself carries the right to write
    request.on_sent = [this, &file, offset](std::uint64_t sent) {
      if (options_.progress) options_.progress({file.path, sent_ + offset + sent, total_, ""});
    };
    return request;
  }

  // The parts' addresses are "1", "2", .. among the action's headers; each answer names its part.
  void send_parts(const LocalFile& file, const std::string& href,
                  const std::vector<std::pair<std::string, std::string>>& header) {
    std::uint64_t chunk = 0;
    std::map<std::uint64_t, std::string> addresses;
    for (const auto& [name, value] : header) {
      if (name == "chunk_size") {
        chunk = std::strtoull(value.c_str(), nullptr, 10);
      } else if (!name.empty() && name.find_first_not_of("0123456789") == name.npos) {
        addresses[std::strtoull(name.c_str(), nullptr, 10)] = value;
      }
    }
    require(chunk > 0 && chunk * kMostParts >= file.size,
            "{}: {}: the Hub asks for parts of {} bytes", repo_.id, file.path, chunk);
    const std::uint64_t count = (file.size + chunk - 1) / chunk;
    require(addresses.size() == count && addresses.begin()->first == 1 &&
                addresses.rbegin()->first == count,
            "{}: {}: the Hub names {} addresses for {} parts", repo_.id, file.path,
            addresses.size(), count);
    io::JsonWriter w;
    w.begin_object();
    w.member("oid", file.oid);
    w.key("parts");
    w.begin_array();
    for (const auto& [number, address] : addresses) {
      const std::uint64_t offset = (number - 1) * chunk;
      const Response response =
          http_.demand(part_of(file, address, offset, std::min(chunk, file.size - offset)),
                       fmt::format("{}: {} (part {} of {})", repo_.id, file.path, number, count));
      const auto etag = response.headers.find("etag");
      require(etag != response.headers.end(), "{}: {}: no ETag for part {}", repo_.id, file.path,
              number);
      w.begin_object();
      w.member("partNumber", static_cast<std::int64_t>(number));
      w.member("etag", etag->second);
      w.end_object();
    }
    w.end_array();
    w.end_object();
    http_.demand(post(href, w.str(), "application/vnd.git-lfs+json"),
                 repo_.id + ": " + file.path + " (joining its parts)");
  }

  void commit(const std::vector<LocalFile>& files) {
    const auto line = [](const char* key, const std::function<void(io::JsonWriter&)>& value) {
      io::JsonWriter w;
      w.begin_object();
      w.member("key", key);
      w.key("value");
      w.begin_object();
      value(w);
      w.end_object();
      w.end_object();
      return w.str() + "\n";
    };
    std::string body = line("header", [&](io::JsonWriter& w) {
      w.member("summary", options_.message.empty() ? "Upload with qgrpo" : options_.message);
      w.member("description", "");
    });
    for (const LocalFile& file : files) {
      if (file.lfs) {
        body += line("lfsFile", [&](io::JsonWriter& w) {
          w.member("path", file.path);
          w.member("algo", "sha256");
          w.member("oid", file.oid);
          w.member("size", static_cast<std::int64_t>(file.size));
        });
      } else {
        body += line("file", [&](io::JsonWriter& w) {
          w.member("content", base64(io::read_file(file.local)));
          w.member("path", file.path);
          w.member("encoding", "base64");
        });
      }
    }
    const std::string url = api("/commit/" + url_escape(repo_.revision, false));
    // Not sent twice on its own: a commit whose answer got lost may have been made.
    const Response response = http_.once(post(url, std::move(body), "application/x-ndjson"));
    if (!response.good()) {
      throw Error(explain(response, repo_.id + " (the commit)", http_.settings()) +
                  "; run the command again: what has arrived is not sent twice");
    }
    io::JsonDocument document;
    const auto answer = document.parse(response.body, url);
    result_.commit = answer.at("commitOid").as_string();
    result_.url = answer.at("commitUrl").as_string();
    result_.changed = files.size();
  }

  Http& http_;
  const Repo& repo_;
  const std::string& folder_;
  const PushOptions& options_;
  std::vector<LocalFile> files_;
  PushResult result_;
  std::uint64_t sent_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace

PushResult push(Http& http, const Repo& repo, const std::string& folder,
                const PushOptions& options) {
  return Push(http, repo, folder, options).run();
}

}  // namespace qgrpo::hub
