#pragma once

#include <string>
#include <utility>
#include <vector>

#include "hub/http.h"

namespace qgrpo::test {

// tests/hub/hub_server.py as a process; ended with this object.
class HubServer {
 public:
  explicit HubServer(const std::vector<std::string>& arguments = {});
  ~HubServer();
  HubServer(const HubServer&) = delete;
  HubServer& operator=(const HubServer&) = delete;

  // False where there is no python3; says so on standard error.
  bool running() const { return port_ > 0; }
  std::string endpoint() const;
  // With a cache folder of the test's own, no token, and pauses of milliseconds.
  hub::Settings settings(const std::string& cache) const;

  // A commit with these files (path, content); returns its name.
  std::string commit(const std::string& repo,
                     const std::vector<std::pair<std::string, std::string>>& files,
                     const std::string& more = "");
  void faults(const std::string& json);
  // One line "METHOD path range authorized host" a request since the last call.
  std::vector<std::string> log();

 private:
  std::string post(const std::string& path, const std::string& body);

  int process_ = -1;
  int input_ = -1;
  int port_ = 0;
};

}  // namespace qgrpo::test
