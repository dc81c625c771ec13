#include "web/protocol.h"

#include <httplib.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "model/ops/error.h"

namespace qgrpo::web {
namespace {

// The library's view of a connection.
class LibraryStream : public httplib::Stream {
 public:
  explicit LibraryStream(Connection& connection) : connection_(&connection) {}

  bool is_readable() const override { return connection_->wait_readable(Seconds(0)); }
  bool is_writable() const override { return connection_->connected(); }
  ssize_t read(char* data, std::size_t size) override { return connection_->read(data, size); }
  ssize_t write(const char* data, std::size_t size) override {
    return connection_->write(data, size);
  }
  void get_remote_ip_and_port(std::string& ip, int& port) const override {
    ip = connection_->remote();
    port = 0;
  }
  void get_local_ip_and_port(std::string& ip, int& port) const override {
    ip.clear();
    port = 0;
  }
  socket_t socket() const override { return connection_->socket(); }
  // Later versions of the library ask these too.
  virtual bool wait_readable() const { return is_readable(); }
  virtual bool wait_writable() const { return is_writable(); }
  virtual time_t duration() const { return 0; }

 private:
  Connection* connection_;
};

// The request that a thread serves: the library's callbacks know the thread, not the connection.
struct Current {
  Connection* connection = nullptr;
  Request request;
  std::size_t target_bytes = 0;
  bool chunks = true;  // the client understands them: HTTP/1.1
  bool last = false;   // the library says that the connection ends
  bool close = false;  // what follows on the connection is not to be trusted
};
thread_local Current* current = nullptr;

class LibrarySink : public Sink {
 public:
  LibrarySink(httplib::DataSink& sink, Connection& connection)
      : sink_(&sink), connection_(&connection) {}
  bool write(std::string_view piece) override {
    if (piece.empty()) return !broken_;
    broken_ = broken_ || !sink_->write(piece.data(), piece.size());
    return !broken_;
  }
  bool connected() override { return !broken_ && connection_->connected(); }

 private:
  httplib::DataSink* sink_;
  Connection* connection_;
  bool broken_ = false;
};

void fill(httplib::Response& to, Response from) {
  to.status = from.status;
  for (auto& [name, value] : from.headers) to.set_header(name, value);
  if (!from.producer) {
    to.set_content(from.body, from.type);
    return;
  }
  const auto provide = [producer = std::move(from.producer)](std::size_t, httplib::DataSink& sink) {
    LibrarySink ours(sink, *current->connection);
    try {
      producer(ours);
    } catch (const std::exception&) {
      return false;
    }
    if (!ours.write("")) return false;
    sink.done();
    return true;
  };
  if (current->chunks) {
    to.set_chunked_content_provider(from.type, provide);
  } else {  // the end of the connection is the end of the response
    current->close = true;
    to.set_header("Connection", "close");
    to.set_content_provider(from.type, provide);
  }
}

bool all_digits(const std::string& text) {
  return !text.empty() && text.size() <= 18 &&
         std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

class Protocol::Library : public httplib::Server {
 public:
  Library(Answers& answers, const Limits& limits) : answers_(&answers), limits_(limits) {
    // What the header Keep-Alive tells.
    set_keep_alive_timeout(static_cast<time_t>(limits.idle.count()));
    set_keep_alive_max_count(1000000);
    svr_sock_ = 0;  // else the library takes itself for stopped, and streams nothing
    set_pre_routing_handler([this](const httplib::Request&, httplib::Response& response) {
      return before_body(response) ? HandlerResponse::Handled : HandlerResponse::Unhandled;
    });
    set_expect_100_continue_handler([this](const httplib::Request&, httplib::Response& response) {
      return refused(response) ? response.status : 100;
    });
    // prepare() has given every request with a body this method and path.
    Post("/", [this](const httplib::Request&, httplib::Response& response,
                     const httplib::ContentReader& reader) { with_body(response, reader); });
    set_error_handler([this](const httplib::Request&, httplib::Response& response) {
      if (!response.body.empty() || response.has_header("Content-Type")) return;
      current->close = true;
      fill(response, answers_->error(response.status, "not understood as an HTTP request"));
    });
    set_exception_handler(
        [this](const httplib::Request&, httplib::Response& response, std::exception_ptr failure) {
          std::string message = "unknown exception";
          try {
            std::rethrow_exception(std::move(failure));
          } catch (const std::exception& error) {
            message = error.what();
          } catch (...) {  // its text stays unknown
          }
          fill(response, answers_->error(500, message));
        });
  }

  bool serve(Connection& connection, bool last) {
    Current now;
    now.connection = &connection;
    now.last = last;
    now.request.remote = connection.remote();
    now.request.connected = [&connection] { return connection.connected(); };
    current = &now;
    connection.limit_reads(limits_.head, limits_.head_bytes);
    connection.limit_writes(limits_.write);
    LibraryStream stream(connection);
    bool closed = false;
    const bool served = process(*this, stream, last, closed);
    current = nullptr;
    // Who was understood is worth the wait.
    constexpr std::uint64_t kUnderstood = std::uint64_t{64} << 20;
    if (!now.request.method.empty()) connection.allow_rest(kUnderstood);
    return served && !closed && !last && !now.close;
  }

 private:
  // Later versions of the library want the addresses too.
  template <typename Self>
  static bool process(Self& self, LibraryStream& stream, bool last, bool& closed) {
    const auto setup = [&self](httplib::Request& request) { self.prepare(request); };
    if constexpr (requires { self.process_request(stream, last, closed, setup); }) {
      return self.process_request(stream, last, closed, setup);
    } else {
      return self.process_request(stream, std::string{}, 0, std::string{}, 0, last, closed, setup);
    }
  }

  // The head has been read: takes from the library what it would do otherwise than we want. It compresses no
  // answers and cuts none into ranges, it does not read a body until its connection ends, and its routing
  // knows nothing but "with a body" and "without".
  void prepare(httplib::Request& request) {
    Request& ours = current->request;
    ours.method = request.method;
    ours.path = request.path;
    for (const auto& [name, value] : request.params) ours.query.emplace(name, value);
    for (const auto& [name, value] : request.headers) ours.headers.emplace(name, value);
    current->chunks = request.version != "HTTP/1.0";
    current->target_bytes = request.target.size();
    request.ranges.clear();
    for (const char* name : {"Accept-Encoding", "Range", "Content-Type"})
      request.headers.erase(name);
    const bool body = has_body();
    if (!body) request.headers.emplace("Content-Length", "0");
    request.path = "/";
    if (body) request.method = "POST";
    current->connection->limit_reads(limits_.body,
                                     std::uint64_t{limits_.body_bytes} * 2 + limits_.head_bytes);
  }

  static bool has_body() {
    const Request& request = current->request;
    const std::string length = request.header("Content-Length");
    return !request.header("Transfer-Encoding").empty() || (!length.empty() && length != "0");
  }

  // Whether the request is refused by its head, with the response.
  bool refused(httplib::Response& response) {
    std::optional<Response> refusal = bad_head();
    if (!refusal) refusal = answers_->refuse(current->request);
    if (!refusal) return false;
    // The body stays unread, so nothing that follows can be read as a request.
    if (has_body()) current->close = true;
    answer(response, std::move(*refusal));
    return true;
  }

  std::optional<Response> bad_head() {
    const Request& request = current->request;
    const auto lengths = request.headers.count("Content-Length");
    const std::string length = request.header("Content-Length");
    const std::string encoding = request.header("Transfer-Encoding");
    const auto bad = [&](int status, const std::string& message) {
      current->close = true;
      return answers_->error(status, message);
    };
    if (lengths > 1 || (lengths == 1 && (!all_digits(length) || !encoding.empty())))
      return bad(400, "Content-Length: expected one whole number, without Transfer-Encoding");
    if (!encoding.empty() && encoding != "chunked")
      return bad(501, fmt::format("Transfer-Encoding: only chunked is understood"));
    if (!encoding.empty() && request.headers.count("Transfer-Encoding") > 1)
      return bad(400, "Transfer-Encoding: found several");
    if (current->target_bytes > limits_.target_bytes)
      return bad(414, fmt::format("the address has {} bytes, expected at most {}",
                                  current->target_bytes, limits_.target_bytes));
    if (lengths == 1 && std::stoull(length) > limits_.body_bytes) return too_large();
    return std::nullopt;
  }

  Response too_large() {
    current->close = true;
    return answers_->error(
        413,
        fmt::format("the body has more than {} bytes, the most that is read", limits_.body_bytes));
  }

  // Answers what needs no body. True: it is answered.
  bool before_body(httplib::Response& response) {
    if (refused(response)) return true;
    if (has_body()) return false;
    answer(response, answers_->answer(current->request));
    return true;
  }

  void with_body(httplib::Response& response, const httplib::ContentReader& reader) {
    std::string& body = current->request.body;
    bool large = false;
    const bool whole = reader([&](const char* data, std::size_t size) {
      large = body.size() + size > limits_.body_bytes;
      if (!large) body.append(data, size);
      return !large;
    });
    const Connection::Trouble trouble = current->connection->trouble();
    if (large || trouble == Connection::Trouble::large) {
      answer(response, too_large());
    } else if (!whole || trouble != Connection::Trouble::none) {
      current->close = true;
      const bool slow = trouble == Connection::Trouble::slow;
      answer(response,
             slow ? answers_->error(408, fmt::format("the body did not come within {:.0f} s",
                                                     limits_.body.count()))
                  : answers_->error(400, "the body is not whole"));
    } else {
      answer(response, answers_->answer(current->request));
    }
  }

  void answer(httplib::Response& response, Response ours) {
    const bool told = current->last || current->request.header("Connection") == "close";
    if (current->close && !told) response.set_header("Connection", "close");
    fill(response, std::move(ours));
  }

  Answers* answers_;
  Limits limits_;
};

Protocol::Protocol(Answers& answers, const Limits& limits)
    : library_(std::make_unique<Library>(answers, limits)) {}
Protocol::~Protocol() = default;

bool Protocol::serve(Connection& connection, bool last) {
  return library_->serve(connection, last);
}

}  // namespace qgrpo::web
