#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "hub/settings.h"

// HTTP for the Hub, over libcurl: redirects, retries with growing pauses, one-line errors.
namespace qgrpo::hub {

struct Response {
  int status = 0;                              // 0: no answer came (see `problem`)
  std::map<std::string, std::string> headers;  // of the last answer; names in lower case
  std::string body;                            // unless a sink took it
  std::string url;                             // the last one asked
  std::string problem;     // the transport's complaint, empty where a whole answer came
  bool transient = false;  // trying again may help: a broken transport, 408, 429, 5xx

  bool good() const { return problem.empty() && status >= 200 && status < 300; }
};

struct Request {
  std::string method = "GET";
  std::string url;
  std::vector<std::string> headers;  // "Name: value"
  std::string body;
  // Instead of `body`: a part of a file.
  std::string file;
  std::uint64_t file_offset = 0;
  std::uint64_t file_bytes = 0;
  // Takes the body of a 2xx answer as it comes, instead of Response::body; false ends the transfer.
  std::function<bool(int status, std::string_view bytes)> sink;
  // Called with the bytes sent so far of this request's body.
  std::function<void(std::uint64_t sent)> on_sent;
  bool authorized = true;  // sends the token, where there is one and the address is the endpoint's
};

class Http {
 public:
  explicit Http(Settings settings);
  ~Http();
  Http(const Http&) = delete;
  Http& operator=(const Http&) = delete;

  const Settings& settings() const { return settings_; }
  // One exchange, redirects followed (the token goes to the endpoint's host alone).
  Response once(const Request& request);
  // The same, again while the outcome is transient: settings().retries times at most.
  Response send(const Request& request);
  // send(), and parses nothing but a 2xx: throws the error that explain() makes.
  Response demand(const Request& request, const std::string& what);
  // The pause before retry `attempt` (0, 1, ...); a Retry-After of the server wins, up to 60 s.
  void pause(int attempt, const Response& response) const;
  // Set to end transfers and pauses early (Ctrl-C): they then throw Error.
  std::function<bool()> stopped;

 private:
  struct Handle;
  void check_stopped() const;

  Settings settings_;
  std::unique_ptr<Handle> handle_;
};

// One line on what went wrong with `what` (a repository, a file): the transport's complaint, or
// what the status and the Hub's own message mean and what to do about it.
std::string explain(const Response& response, const std::string& what, const Settings& settings);

}  // namespace qgrpo::hub
