#include "hub/settings.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>

#include "model/io/file.h"
#include "model/ops/error.h"

namespace qgrpo::hub {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string first_of(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (const std::string value = variable(name); !value.empty()) return value;
  }
  return "";
}

// ~ at the start, as in Python's expanduser.
std::string expand(const std::string& path) {
  if (path != "~" && !path.starts_with("~/")) return path;
  return variable("HOME") + path.substr(1);
}

bool is_true(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text == "1" || text == "ON" || text == "YES" || text == "TRUE";
}

std::string trimmed(std::string text) {
  const auto space = [](unsigned char c) { return std::isspace(c) != 0; };
  while (!text.empty() && space(static_cast<unsigned char>(text.back()))) text.pop_back();
  while (!text.empty() && space(static_cast<unsigned char>(text.front()))) text.erase(0, 1);
  return text;
}

bool name_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.';
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= 96 &&
         std::all_of(text.begin(), text.end(), name_character) && text.front() != '-' &&
         text.front() != '.' && text.back() != '-' && text.back() != '.' &&
         text.find("--") == text.npos && text.find("..") == text.npos;
}

}  // namespace

Settings settings_from_environment() {
  Settings s;
  if (const std::string endpoint = variable("HF_ENDPOINT"); !endpoint.empty()) {
    s.endpoint = endpoint;
    while (s.endpoint.ends_with('/')) s.endpoint.pop_back();
    require(s.endpoint.starts_with("https://") || s.endpoint.starts_with("http://"),
            "HF_ENDPOINT: found \"{}\", expected an address such as https://huggingface.co",
            endpoint);
  }
  std::string home = expand(variable("HF_HOME"));
  if (home.empty()) {
    const std::string cache = expand(variable("XDG_CACHE_HOME"));
    home = (cache.empty() ? variable("HOME") + "/.cache" : cache) + "/huggingface";
  }
  s.cache = expand(first_of({"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}));
  if (s.cache.empty()) s.cache = home + "/hub";
  s.token = trimmed(first_of({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}));
  const char* source = "HF_TOKEN";
  std::string path = expand(variable("HF_TOKEN_PATH"));
  if (path.empty()) path = home + "/token";
  std::error_code ignored;
  if (s.token.empty() && std::filesystem::is_regular_file(path, ignored)) {
    s.token = trimmed(io::read_file(path));
    source = path.c_str();
  }
  require(std::none_of(s.token.begin(), s.token.end(),
                       [](unsigned char c) { return c <= ' ' || c == 0x7f; }),
          "{}: holds spaces or line breaks in the middle, expected one token (hf_...)", source);
  s.offline = is_true(first_of({"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}));
  return s;
}

std::string Repo::folder() const {
  std::string out = (kind == Kind::dataset ? "datasets--" : "models--") + id;
  const std::size_t slash = out.find('/');
  if (slash != out.npos) out.replace(slash, 1, "--");
  return out;
}

std::string Repo::api_path() const {
  return (kind == Kind::dataset ? "/api/datasets/" : "/api/models/") + id;
}

std::string Repo::files_path() const {
  return (kind == Kind::dataset ? "/datasets/" : "/") + id;
}

Repo parse_repo(std::string_view text) {
  const char* expected = "OWNER/NAME, or OWNER/NAME@REVISION (a branch, a tag or a commit)";
  Repo repo;
  const std::size_t at = text.find('@');
  repo.id = std::string(text.substr(0, at));
  if (at != text.npos) repo.revision = std::string(text.substr(at + 1));
  const std::size_t slash = repo.id.find('/');
  const bool good = slash == repo.id.npos
                        ? is_name(repo.id)
                        : is_name(repo.id.substr(0, slash)) && is_name(repo.id.substr(slash + 1));
  require(good, "\"{}\": is no repository's name, expected {}", text, expected);
  require(!repo.revision.empty(), "\"{}\": has no revision behind the @, expected {}", text,
          expected);
  check_repo_path(repo.revision, fmt::format("\"{}\": the revision", text));
  return repo;
}

bool names_repo(std::string_view text) {
  const std::string_view id = text.substr(0, text.find('@'));
  const std::size_t slash = id.find('/');
  return slash != id.npos && is_name(id.substr(0, slash)) && is_name(id.substr(slash + 1));
}

void check_repo_path(std::string_view path, std::string_view where) {
  bool good = !path.empty() && path.size() < 4096;
  std::size_t begin = 0;
  while (good && begin <= path.size()) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    good = !part.empty() && part.size() < 256 && part != "." && part != ".." &&
           std::none_of(part.begin(), part.end(), [](char c) {
             return c == '\\' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
           });
    begin = end + 1;
  }
  require(good, "{}: \"{}\" is no path inside a repository", where, path);
}

std::string url_escape(std::string_view text, bool keep_slashes) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (name_character(c) || c == '~' || (c == '/' && keep_slashes)) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", byte);
    }
  }
  return out;
}

}  // namespace qgrpo::hub
