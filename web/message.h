#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// What goes over an HTTP connection, as handlers see it.
namespace qgrpo::web {

// Names of headers compare without case.
struct HeaderOrder {
  using is_transparent = void;
  bool operator()(std::string_view a, std::string_view b) const;
};
using Headers = std::multimap<std::string, std::string, HeaderOrder>;

// A request whose head has been read, and in a handler its body too.
struct Request {
  std::string method;  // "GET", "POST", ...
  std::string path;    // decoded, without the query: "/v1/models"
  std::map<std::string, std::string> query;
  Headers headers;
  std::string body = {};
  std::string remote;  // the client's address
  // Whether the client is still there. A handler that waits for something long looks now and then.
  std::function<bool()> connected;

  // The header's first value, or "".
  std::string header(std::string_view name) const;
  // The query's value, or "".
  std::string parameter(const std::string& name) const;
};

// Where the body of a streamed response goes.
class Sink {
 public:
  virtual ~Sink() = default;
  // Sends a piece at once. False: the client has gone; nothing more will reach it.
  virtual bool write(std::string_view piece) = 0;
  // Whether the client is still there.
  virtual bool connected() = 0;
};

// Called once, in the connection's thread; the response ends when it returns. What it throws cuts the response
// off: the client sees that it is not whole.
using Producer = std::function<void(Sink&)>;

struct Response {
  int status = 200;
  std::string type = "application/json";
  std::string body = {};
  std::vector<std::pair<std::string, std::string>> headers = {};
  Producer producer = {};  // instead of a body
};

// Whether both are equal, in a time that does not tell where they differ.
bool equal_secrets(std::string_view a, std::string_view b);

// "data: TEXT\n\n": an event of a text/event-stream. A text of several lines is one event of several data lines.
std::string server_sent_event(std::string_view text);

}  // namespace qgrpo::web
