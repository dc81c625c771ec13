#include <doctest/doctest.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "support/error_of.h"
#include "web/raw_client.h"
#include "web/server.h"

namespace qgrpo::web {
namespace {

using test::RawClient;

// A server of a few routes, in a thread of its own.
class Running {
 public:
  explicit Running(ServerOptions options = {}) : server(std::move(options)) {
    server.route("GET", "/hello",
                 [](const Request&) { return Response{.type = "text/plain", .body = "hello"}; });
    server.route("POST", "/echo", [](const Request& request) {
      return Response{.type = "text/plain", .body = request.body};
    });
    server.route("GET", "/files/*", [](const Request& request) {
      return Response{.type = "text/plain", .body = request.path + "?" + request.parameter("a")};
    });
    server.route("GET", "/throw", [](const Request&) -> Response { fail("thrown"); });
    server.route("GET", "/slow", [](const Request&) {
      std::this_thread::sleep_for(std::chrono::milliseconds(400));
      return Response{.body = "slow"};
    });
    server.route("GET", "/wait", [this](const Request& request) {
      while (request.connected()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      gone = true;
      return Response{};
    });
    server.route("GET", "/stream", [this](const Request&) {
      Response response{.type = "text/event-stream"};
      response.producer = [this](Sink& sink) {
        ++streams;
        int n = 0;
        while (!release && sink.write(server_sent_event(std::to_string(n++))))
          std::this_thread::sleep_for(std::chrono::milliseconds(2));
        if (!sink.connected()) gone = true;
        --streams;
      };
      return response;
    });
    server.route("GET", "/broken", [](const Request&) {
      Response response{.type = "text/plain"};
      response.producer = [](Sink& sink) {
        sink.write("half");
        fail("broken");
      };
      return response;
    });
    thread = std::thread([this] { server.run(); });
  }
  ~Running() {
    release = true;
    server.stop();
    thread.join();
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  // One request on a connection of its own.
  std::string ask(const std::string& head, const std::string& body = "") {
    RawClient client(server.port());
    REQUIRE(client.is_open());
    client.send(head + "Connection: close\r\n\r\n" + body);
    return client.read();
  }
  std::string get(const std::string& path, const std::string& headers = "") {
    return ask("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n" + headers);
  }

  std::atomic<bool> release{false};
  std::atomic<bool> gone{false};
  std::atomic<int> streams{0};
  Server server;
  std::thread thread;
};

std::string status_of(const std::string& response) {
  return response.substr(0, response.find("\r\n"));
}
std::string body_of(const std::string& response) {
  const std::size_t end = response.find("\r\n\r\n");
  return end == std::string::npos ? "" : response.substr(end + 4);
}

bool soon(const std::function<bool()>& condition) {
  for (int i = 0; i < 1000 && !condition(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  return condition();
}

TEST_CASE("web: routes, methods and prefixes") {
  Running s;
  CHECK(status_of(s.get("/hello")) == "HTTP/1.1 200 OK");
  CHECK(body_of(s.get("/hello")) == "hello");
  CHECK(body_of(s.get("/files/x%20y?a=%26b")) == "/files/x y?&b");
  CHECK(status_of(s.get("/files")).starts_with("HTTP/1.1 404"));
  CHECK(body_of(s.get("/nothing")) == R"({"error": "/nothing: no such path"})");
  CHECK(body_of(s.ask("POST /echo HTTP/1.1\r\nContent-Length: 5\r\n", "12345")) == "12345");
  const std::string wrong = s.get("/echo");
  CHECK(status_of(wrong).starts_with("HTTP/1.1 405"));
  CHECK(wrong.find("Allow: POST\r\n") != std::string::npos);
  CHECK(status_of(s.ask("BREW /hello HTTP/1.1\r\n")).starts_with("HTTP/1.1 4"));
  const std::string head = s.ask("HEAD /hello HTTP/1.1\r\n");
  CHECK(status_of(head) == "HTTP/1.1 200 OK");
  CHECK(body_of(head).empty());
  const std::string thrown = s.get("/throw");
  CHECK(status_of(thrown).starts_with("HTTP/1.1 500"));
  CHECK(body_of(thrown) == R"({"error": "thrown"})");
  CHECK(thrown.find("EXCEPTION") == std::string::npos);
}

TEST_CASE("web: bodies") {
  ServerOptions options;
  options.limits.body_bytes = 1000;
  Running s(options);
  // Chunked, and without any length: none.
  CHECK(body_of(s.ask("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n",
                      "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")) == "abcde");
  CHECK(status_of(s.ask("POST /echo HTTP/1.1\r\n")) == "HTTP/1.1 200 OK");
  // Whatever its type says.
  CHECK(body_of(s.ask("POST /echo HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
                      "Content-Length: 3\r\n",
                      "abc")) == "abc");
  const std::string large(1001, 'x');
  CHECK(body_of(s.ask("POST /echo HTTP/1.1\r\nContent-Length: 1000\r\n", large.substr(1))) ==
        large.substr(1));
  CHECK(status_of(s.ask("POST /echo HTTP/1.1\r\nContent-Length: 1001\r\n", large))
            .starts_with("HTTP/1.1 413"));
  CHECK(status_of(s.ask("POST /echo HTTP/1.1\r\nContent-Length: 99999999999999\r\n"))
            .starts_with("HTTP/1.1 413"));
  CHECK(status_of(s.ask("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n",
                        "3e9\r\n" + large + "\r\n0\r\n\r\n"))
            .starts_with("HTTP/1.1 413"));
  for (const char* length : {"-1", "abc", "1\r\nContent-Length: 2", "5, 5",
                             "3\r\nTransfer-Encoding: chunked", "99999999999999999999"}) {
    CAPTURE(length);
    const std::string head = fmt::format("POST /echo HTTP/1.1\r\nContent-Length: {}\r\n", length);
    CHECK(status_of(s.ask(head, "abc")).starts_with("HTTP/1.1 400"));
  }
  CHECK(status_of(s.ask("POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n"))
            .starts_with("HTTP/1.1 413"));
}

TEST_CASE("web: a refused body is no next request") {
  Running s;
  RawClient client(s.server.port());
  const std::string hidden = "GET /hello HTTP/1.1\r\n\r\n";
  client.send(
      fmt::format("POST /nothing HTTP/1.1\r\nContent-Length: {}\r\n\r\n{}", hidden.size(), hidden));
  const std::string all = client.read();
  CHECK(status_of(all).starts_with("HTTP/1.1 404"));
  CHECK(all.find("200 OK") == std::string::npos);
}

TEST_CASE("web: several requests on a connection") {
  Running s;
  RawClient client(s.server.port());
  for (int i = 0; i < 20; ++i) {
    client.send("GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
    CHECK(status_of(client.read("hello")) == "HTTP/1.1 200 OK");
  }
  client.send("GET /hello HTTP/1.1\r\n\r\nPOST /echo HTTP/1.1\r\nContent-Length: 4\r\n\r\nlast");
  CHECK(client.read("last").find("hello") != std::string::npos);
}

TEST_CASE("web: keys") {
  ServerOptions options;
  options.api_key = "secret";
  options.key_parameter = "key";
  Running s(options);
  CHECK(status_of(s.get("/hello")).starts_with("HTTP/1.1 401"));
  CHECK(status_of(s.get("/nothing")).starts_with("HTTP/1.1 401"));
  for (const char* wrong : {"secre", "secret1", "Secret", "", "secretsecret"}) {
    CAPTURE(wrong);
    CHECK(status_of(s.get("/hello", fmt::format("Authorization: Bearer {}\r\n", wrong)))
              .starts_with("HTTP/1.1 401"));
    CHECK(status_of(s.get(fmt::format("/hello?key={}", wrong))).starts_with("HTTP/1.1 401"));
  }
  CHECK(status_of(s.get("/hello", "Authorization: Basic secret\r\n")).starts_with("HTTP/1.1 401"));
  CHECK(body_of(s.get("/hello", "Authorization: Bearer secret\r\n")) == "hello");
  CHECK(body_of(s.get("/hello", "authorization: bearer secret\r\n")) == "hello");
  CHECK(body_of(s.get("/hello?key=secret")) == "hello");
  CHECK(equal_secrets("", ""));
  CHECK_FALSE(equal_secrets("a", ""));
  CHECK_FALSE(equal_secrets("", "a"));
}

TEST_CASE("web: pages of other origins") {
  ServerOptions options;
  options.allowed_origins = {"http://friend.example"};
  Running s(options);
  CHECK(status_of(s.get("/hello", "Origin: http://evil.example\r\n")).starts_with("HTTP/1.1 403"));
  CHECK(status_of(s.get("/hello", "Origin: null\r\n")).starts_with("HTTP/1.1 403"));
  CHECK(body_of(s.get("/hello", "Origin: http://localhost\r\n")) == "hello");
  const std::string friendly = s.get("/hello", "Origin: http://friend.example\r\n");
  CHECK(friendly.find("Access-Control-Allow-Origin: http://friend.example\r\n") !=
        std::string::npos);
  CHECK(status_of(s.ask("OPTIONS /echo HTTP/1.1\r\nOrigin: http://friend.example\r\n")) ==
        "HTTP/1.1 204 No Content");
  // A name that somebody else has made to point here.
  CHECK(status_of(s.ask("GET /hello HTTP/1.1\r\nHost: evil.example:80\r\n"))
            .starts_with("HTTP/1.1 403"));
  CHECK(status_of(s.ask("GET /hello HTTP/1.1\r\nHost: 127.0.0.1:80\r\n")) == "HTTP/1.1 200 OK");
  CHECK(status_of(s.ask("GET /hello HTTP/1.1\r\nHost: [::1]:80\r\n")) == "HTTP/1.1 200 OK");
}

TEST_CASE("web: a stream is whole, and a client that hangs up is noticed") {
  Running s;
  {
    RawClient client(s.server.port());
    client.send("GET /stream HTTP/1.1\r\n\r\n");
    const std::string begin = client.read("data: 3\n\n");
    CHECK(begin.find("data: 0\n\n") != std::string::npos);
    CHECK(begin.find("Transfer-Encoding: chunked") != std::string::npos);
    CHECK(s.streams == 1);
  }
  CHECK(soon([&] { return s.streams == 0; }));
  CHECK(s.gone);
  s.gone = false;
  {
    RawClient client(s.server.port());
    client.send("GET /wait HTTP/1.1\r\n\r\n");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    CHECK_FALSE(s.gone);
  }
  CHECK(soon([&] { return s.gone.load(); }));
  // One that breaks off has no last chunk.
  CHECK(body_of(s.get("/broken")) == "4\r\nhalf\r\n");
  // HTTP/1.0 knows no chunks.
  s.release = true;
  const std::string old = s.ask("GET /stream HTTP/1.0\r\n");
  CHECK(old.find("chunked") == std::string::npos);
}

TEST_CASE("web: more streams than any pool of threads, and others beside them") {
  Running s;
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 100; ++i) {
    clients.push_back(std::make_unique<RawClient>(s.server.port()));
    clients.back()->send("GET /stream HTTP/1.1\r\n\r\n");
  }
  CHECK(soon([&] { return s.streams == 100; }));
  CHECK(body_of(s.get("/hello")) == "hello");
}

TEST_CASE("web: slow and endless clients are cut off") {
  ServerOptions options;
  options.limits.head = Seconds(0.3);
  options.limits.body = Seconds(0.3);
  options.limits.idle = Seconds(0.3);
  Running s(options);
  RawClient silent(s.server.port());
  RawClient slow_head(s.server.port());
  slow_head.send("GET /hello HT");
  RawClient slow_body(s.server.port());
  slow_body.send("POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
  CHECK(silent.read().empty());
  slow_head.read();
  CHECK(status_of(slow_body.read()).starts_with("HTTP/1.1 408"));
  // A byte now and then does not help.
  RawClient dripping(s.server.port());
  const auto begin = Clock::now();
  while (dripping.send("G") && Clock::now() - begin < std::chrono::seconds(5))
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK(Clock::now() - begin < std::chrono::seconds(5));
  RawClient endless(s.server.port());
  endless.send("GET /hello HTTP/1.1\r\n");
  const std::string header = "X: " + std::string(1000, 'y') + "\r\n";
  int sent = 0;
  while (sent < 10000 && endless.send(header)) ++sent;
  CHECK(sent < 10000);
}

TEST_CASE("web: what is no request") {
  Running s;
  for (const std::string& text :
       {std::string("\r\n\r\n"), std::string("nonsense\r\n\r\n"), std::string("GET\r\n\r\n"),
        std::string("GET / HTTP/9.9\r\n\r\n"), std::string("\0\0\0\0\r\n\r\n", 8),
        std::string("GET /hello HTTP/1.1\r\nno colon\r\n\r\n"),
        "GET /" + std::string(3000, 'a') + " HTTP/1.1\r\n\r\n",
        "GET /" + std::string(9000, '%') + " HTTP/1.1\r\n\r\n",
        "GET /hello HTTP/1.1\r\nRange: bytes=" + std::string(7000, '0') + "-\r\n\r\n"}) {
    CAPTURE(text.substr(0, 60));
    RawClient client(s.server.port());
    client.send(text);
    client.read("\r\n\r\n");
  }
  CHECK(body_of(s.get("/hello")) == "hello");
  CHECK(body_of(s.get("/hello", "Range: bytes=1-2\r\n")) == "hello");
  CHECK(body_of(s.get("/hello", "Accept-Encoding: gzip, br\r\n")) == "hello");
}

TEST_CASE("web: addresses") {
  Running s;
  ServerOptions same;
  same.port = s.server.port();
  CHECK(
      test::error_of([&] { const Server other(same); }) ==
      fmt::format("cannot listen on 127.0.0.1:{}: Address already in use; another program listens "
                  "there: choose another --port",
                  same.port));
  CHECK(s.server.address() == fmt::format("http://127.0.0.1:{}", same.port));
  ServerOptions far;
  far.host = "192.0.2.1";
  CHECK(test::error_of([&] { const Server other(far); }).find("--host") != std::string::npos);
  for (const char* local : {"127.0.0.1", "127.9.9.9", "::1", "localhost"})
    CHECK(is_loopback(local));
  for (const char* wide : {"0.0.0.0", "::", "192.168.1.1", "example.org", ""})
    CHECK_FALSE(is_loopback(wide));
}

TEST_CASE("web: stopping answers what is in work and refuses the rest") {
  std::optional<Running> s(std::in_place);
  RawClient slow(s->server.port());
  RawClient idle(s->server.port());
  idle.send("GET /hello HTTP/1.1\r\n\r\n");
  idle.read("hello");
  slow.send("GET /slow HTTP/1.1\r\n\r\n");
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  s->server.stop();
  const std::string refused = s->get("/hello");
  CHECK(status_of(refused).starts_with("HTTP/1.1 503"));
  const std::string answered = slow.read();
  CHECK(body_of(answered) == "slow");
  s.reset();
  CHECK(idle.read().empty());
}

TEST_CASE("web: stopping cuts off what takes too long") {
  ServerOptions options;
  options.drain = Seconds(0.2);
  std::optional<Running> s(std::in_place, options);
  RawClient client(s->server.port());
  client.send("GET /stream HTTP/1.1\r\n\r\n");
  client.read("data: 1\n\n");
  s->server.stop();
  s->thread.join();
  s->thread = std::thread([] {});
  CHECK(s->gone);
}

TEST_CASE("web: server-sent events") {
  CHECK(server_sent_event("[DONE]") == "data: [DONE]\n\n");
  CHECK(server_sent_event("") == "data: \n\n");
  CHECK(server_sent_event("a\nb") == "data: a\ndata: b\n\n");
}

}  // namespace
}  // namespace qgrpo::web
