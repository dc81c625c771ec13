#include "hub/answers.h"

#include <algorithm>
#include <cctype>

#include "hub/digest.h"
#include "model/io/json.h"
#include "model/ops/error.h"

namespace qgrpo::hub {
namespace {

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

RepoFile read_entry(const io::JsonValue& entry) {
  RepoFile file;
  file.path = entry.at("path").as_string();
  check_repo_path(file.path, entry.where());
  file.blob_id = entry.at("oid").as_string();
  std::int64_t size = entry.at("size").as_int();
  if (const auto lfs = entry.find("lfs"); lfs && lfs->is_object()) {
    file.lfs_sha256 = lfs->at("oid").as_string();
    if (file.lfs_sha256.starts_with("sha256:")) file.lfs_sha256.erase(0, 7);
    size = lfs->at("size").as_int();
  }
  if (const auto xet = entry.find("xetHash"); xet && xet->is_string())
    file.xet_hash = xet->as_string();
  require(size >= 0, "{}: {}: found the size {}", entry.where(), file.path, size);
  file.size = static_cast<std::uint64_t>(size);
  require(is_hex(file.etag(), file.lfs_sha256.empty() ? 40 : 64),
          "{}: {}: \"{}\" is no checksum of git or LFS", entry.where(), file.path, file.etag());
  return file;
}

}  // namespace

void add_header(Headers& headers, std::string_view line) {
  if (line.starts_with("HTTP/")) headers.clear();  // of an answer that led elsewhere
  const std::size_t colon = line.find(':');
  if (colon == line.npos) return;
  std::size_t begin = line.find_first_not_of(" \t", colon + 1);
  const std::size_t end = line.find_last_not_of(" \t\r\n");
  if (begin == line.npos || begin > end) begin = end + 1;
  headers[lower(std::string(line.substr(0, colon)))] = line.substr(begin, end + 1 - begin);
}

std::string next_page(const Headers& headers) {
  const auto found = headers.find("link");
  if (found == headers.end()) return "";
  const std::string& link = found->second;
  for (std::size_t at = 0; (at = link.find('<', at)) != link.npos;) {
    const std::size_t end = link.find('>', at);
    if (end == link.npos) break;
    const std::string rest = link.substr(end, link.find('<', end) - end);
    if (rest.find("rel=\"next\"") != rest.npos) return link.substr(at + 1, end - at - 1);
    at = end;
  }
  return "";
}

std::string said_in(const Headers& headers, const std::string& body) {
  std::string text;
  if (const auto found = headers.find("x-error-message"); found != headers.end()) {
    text = found->second;
  } else if (body.starts_with("{")) {
    try {
      io::JsonDocument document;
      const auto error = document.parse(body, "answer").find("error");
      if (error && error->is_string()) text = error->as_string();
    } catch (const Error&) {  // no JSON: nothing to quote
    }
  }
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20; }, ' ');
  return text.substr(0, 200);
}

std::string read_commit(std::string_view body, const std::string& where) {
  io::JsonDocument document;
  const auto root = document.parse(body, where);
  const std::string commit = root.at("sha").as_string();
  require(is_hex(commit, 40), "{}: key \"sha\": found \"{}\", expected a commit of 40 digits",
          where, commit);
  return commit;
}

std::vector<RepoFile> read_files(std::string_view body, const std::string& where) {
  std::vector<RepoFile> files;
  io::JsonDocument document;
  for (const auto& entry : document.parse(body, where).as_array()) {
    if (entry.at("type").as_string_view() == "file") files.push_back(read_entry(entry));
  }
  return files;
}

}  // namespace qgrpo::hub
