#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "web/message.h"
#include "web/socket.h"

namespace qgrpo::web {

struct Limits {
  std::size_t body_bytes = std::size_t{32} << 20;
  std::size_t head_bytes = std::size_t{64} << 10;  // request line and headers
  std::size_t target_bytes = 2048;                 // path and query
  Seconds head{15};                                // for a whole head
  Seconds body{60};                                // for a whole body
  Seconds idle{30};                                // between two requests of a connection
  Seconds write{30};                               // without progress
};

// Who answers the requests of a connection.
class Answers {
 public:
  virtual ~Answers() = default;
  // The head has been read. A response refuses the request, whose body is then not read.
  virtual std::optional<Response> refuse(const Request& head) = 0;
  virtual Response answer(const Request& request) = 0;
  // The response to what is no request: a status and a sentence.
  virtual Response error(int status, const std::string& message) = 0;
};

// HTTP/1.1 over a connection, by cpp-httplib, which protocol.cpp alone knows: it reads heads and bodies and
// writes responses. Limits, deadlines and sockets are ours. May be used by several threads at a time.
class Protocol {
 public:
  Protocol(Answers& answers, const Limits& limits);
  ~Protocol();

  // Serves one request, which is there or on its way. `last`: the connection is to end after it, and the
  // response says so. Returns whether another request may follow.
  bool serve(Connection& connection, bool last);

 private:
  class Library;
  std::unique_ptr<Library> library_;
};

}  // namespace qgrpo::web
