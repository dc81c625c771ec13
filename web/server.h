#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "web/message.h"
#include "web/protocol.h"

namespace qgrpo::web {

struct ServerOptions {
  std::string host = "127.0.0.1";
  int port = 0;         // 0: any that is free
  std::string api_key;  // every request must have it, as "Authorization: Bearer KEY"; empty: none
  // A parameter of the address that may have the key instead ("?key=..."), for a page in a browser. Empty: none.
  std::string key_parameter;
  // Pages of other origins that a browser may let use this server: "http://host:port", "*" for all.
  std::vector<std::string> allowed_origins;
  Limits limits;
  int max_connections = 512;  // at once; more wait to be accepted
  // After stop(), requests in work have so long until they are cut off.
  Seconds drain{600};
  // The response to an error: a status and a sentence. Default: {"error":"..."}.
  std::function<Response(int status, const std::string& message)> error = {};
};

using Handler = std::function<Response(const Request&)>;

// An HTTP server on plain TCP: a thread a connection, made as they come.
//
//   Server server(options);
//   server.route("GET", "/health", [](const Request&) { return Response{}; });
//   server.run();                       until stop()
//
// Refused before a handler sees it: a wrong key (401), a page of another origin, or, on a loopback address, a
// name that is not this machine's in the Host header (403: a page elsewhere whose name was made to point here), an
// unknown path (404), a method that the path does not have (405, with Allow), a body that is too large (413); after
// stop() everything (503). What a handler throws is status 500 with its text. HEAD is GET without the body.
class Server : private Answers {
 public:
  // Listens from now on. Throws Error where it cannot.
  explicit Server(ServerOptions options);
  ~Server() override;
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Before run(). A path that ends in "*" stands for all that begin with what is before it; the exact and
  // then the longest one counts.
  void route(const std::string& method, const std::string& path, Handler handler);

  int port() const { return port_; }
  // "http://127.0.0.1:8000"
  std::string address() const;

  // Accepts and serves until stop(), or until `stopping` (asked ten times a second) says so; then answers
  // what is in work, refuses the rest, and returns when all connections have ended.
  void run(const std::function<bool()>& stopping = {});
  // From any thread: run() is to end.
  void stop() { draining_ = true; }
  bool draining() const { return draining_; }

 private:
  struct Route {
    std::string method;
    std::string path;  // without "*"
    bool prefix = false;
    Handler handler;
  };
  struct Threads;

  std::optional<Response> refuse(const Request& head) override;
  Response answer(const Request& request) override;
  Response error(int status, const std::string& message) override;

  bool has_key(const Request& request) const;
  bool may_ask(const Request& request) const;
  bool allowed_origin(const Request& request) const;
  const Route* best(const Request& request, const std::string& method) const;
  std::string methods_of(const Request& request) const;
  void serve(Connection& connection);

  ServerOptions options_;
  std::vector<Route> routes_;
  Descriptor listening_;
  int port_ = 0;
  std::atomic<bool> draining_{false};
  std::unique_ptr<Threads> threads_;
  Protocol protocol_;
};

}  // namespace qgrpo::web
