#include "hub/hub_server.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "hub/digest.h"
#include "model/io/json.h"
#include "model/ops/error.h"
#include "support/vectors.h"

namespace qgrpo::test {

HubServer::HubServer(const std::vector<std::string>& arguments) {
  const std::string script = vector_path("../hub/hub_server.py");
  std::vector<std::string> words = {"python3", script};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  int to[2], from[2];
  require(pipe2(to, O_CLOEXEC) == 0 && pipe2(from, O_CLOEXEC) == 0, "cannot make pipes");
  process_ = fork();
  require(process_ >= 0, "cannot fork");
  if (process_ == 0) {
    dup2(to[0], 0);
    dup2(from[1], 1);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  close(to[0]);
  close(from[1]);
  input_ = to[1];
  std::string line;
  for (char c = 0; read(from[0], &c, 1) == 1 && c != '\n';) line += c;
  close(from[0]);
  port_ = std::atoi(line.c_str());
  if (port_ == 0) MESSAGE("SKIPPED: the tests of the Hub need python3, which does not start here");
}

HubServer::~HubServer() {
  close(input_);
  waitpid(process_, nullptr, 0);
}

std::string HubServer::endpoint() const {
  return fmt::format("http://127.0.0.1:{}", port_);
}

hub::Settings HubServer::settings(const std::string& cache) const {
  hub::Settings settings;
  settings.endpoint = endpoint();
  settings.cache = cache;
  settings.retry_seconds = 0.001;
  settings.stall_timeout = 1;
  return settings;
}

std::string HubServer::post(const std::string& path, const std::string& body) {
  hub::Http http(settings(""));
  hub::Request request;
  request.method = "POST";
  request.url = endpoint() + path;
  request.body = body;
  return http.demand(request, "the test's server").body;
}

std::string HubServer::commit(const std::string& repo,
                              const std::vector<std::pair<std::string, std::string>>& files,
                              const std::string& more) {
  std::string body = fmt::format("{{\"id\":\"{}\"{},\"files\":{{", repo, more);
  for (const auto& [path, content] : files) {
    if (!body.ends_with('{')) body += ',';
    body += io::json_string(path) + ":" + io::json_string(hub::base64(content));
  }
  io::JsonDocument document;
  return document.parse(post("/_test/repo", body + "}}"), "answer").at("sha").as_string();
}

void HubServer::faults(const std::string& json) {
  post("/_test/faults", json);
}

std::vector<std::string> HubServer::log() {
  hub::Http http(settings(""));
  hub::Request request;
  request.url = endpoint() + "/_test/log";
  io::JsonDocument document;
  std::vector<std::string> lines;
  for (const auto& entry : document.parse(http.demand(request, "log").body, "log").as_array()) {
    lines.push_back(fmt::format("{} {} {} {} {}", entry.at("method").as_string(),
                                entry.at("path").as_string(), entry.at("range").as_string(),
                                entry.at("authorized").as_bool(), entry.at("host").as_string()));
  }
  return lines;
}

}  // namespace qgrpo::test
