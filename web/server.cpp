#include "web/server.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "model/io/json.h"
#include "model/ops/error.h"

namespace qgrpo::web {
namespace {

// How often a waiting thread looks whether the server stops.
constexpr std::chrono::milliseconds kLook{100};

std::string without_port(std::string host) {
  if (!host.empty() && host.front() == '[') return host.substr(1, host.find(']') - 1);
  const std::size_t colon = host.rfind(':');
  return colon == std::string::npos ? host : host.substr(0, colon);
}

bool is_address(const std::string& host) {
  in_addr v4{};
  in6_addr v6{};
  return inet_pton(AF_INET, host.c_str(), &v4) == 1 || inet_pton(AF_INET6, host.c_str(), &v6) == 1;
}

}  // namespace

// The threads of the open connections, and a place where idle ones wait for the next.
struct Server::Threads {
  std::mutex mutex;
  std::condition_variable changed;
  std::set<int> open;         // sockets
  int threads = 0;            // alive
  int idle = 0;               // of them
  std::vector<int> accepted;  // not taken yet
  bool ended = false;
};

Server::Server(ServerOptions options)
    : options_(std::move(options)),
      listening_(listen_on(options_.host, options_.port)),
      port_(port_of(listening_)),
      threads_(std::make_unique<Threads>()),
      protocol_(*this, options_.limits) {}

Server::~Server() = default;

std::string Server::address() const {
  const bool v6 = options_.host.find(':') != std::string::npos;
  return fmt::format("http://{}{}{}:{}", v6 ? "[" : "", options_.host, v6 ? "]" : "", port_);
}

void Server::route(const std::string& method, const std::string& path, Handler handler) {
  Route route{method, path, !path.empty() && path.back() == '*', std::move(handler)};
  if (route.prefix) route.path.pop_back();
  routes_.push_back(std::move(route));
}

// The route of a method; any method's where `method` is empty.
const Server::Route* Server::best(const Request& request, const std::string& method) const {
  const Route* best = nullptr;
  for (const Route& route : routes_) {
    const bool matches =
        route.prefix ? request.path.starts_with(route.path) : request.path == route.path;
    if (!matches || (!method.empty() && route.method != method)) continue;
    if (best == nullptr || (best->prefix && !route.prefix) ||
        (best->prefix == route.prefix && route.path.size() > best->path.size()))
      best = &route;
  }
  return best;
}

std::string Server::methods_of(const Request& request) const {
  std::set<std::string> methods;
  for (const Route& route : routes_) {
    if (best(request, route.method) != nullptr) methods.insert(route.method);
  }
  return fmt::to_string(fmt::join(methods, ", "));
}

bool Server::has_key(const Request& request) const {
  if (options_.api_key.empty()) return true;
  constexpr std::string_view kScheme = "bearer ";
  const std::string given = request.header("Authorization");
  const auto same = [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b; };
  if (given.size() >= kScheme.size() &&
      std::equal(kScheme.begin(), kScheme.end(), given.begin(),
                 [&](char b, char a) { return same(a, b); }) &&
      equal_secrets(std::string_view(given).substr(kScheme.size()), options_.api_key))
    return true;
  return !options_.key_parameter.empty() &&
         equal_secrets(request.parameter(options_.key_parameter), options_.api_key);
}

bool Server::allowed_origin(const Request& request) const {
  const std::string origin = request.header("Origin");
  return std::ranges::any_of(options_.allowed_origins, [&](const std::string& allowed) {
    return allowed == "*" || allowed == origin;
  });
}

// Whether a browser may have been led here by a page that is not ours.
bool Server::may_ask(const Request& request) const {
  const std::string host = request.header("Host");
  const std::string name = without_port(host);
  // A name that somebody else owns can be made to point to this machine.
  if (options_.api_key.empty() && is_loopback(options_.host) && !name.empty() &&
      !is_address(name) && name != "localhost" && !name.ends_with(".localhost"))
    return false;
  const std::string origin = request.header("Origin");
  if (origin.empty() || allowed_origin(request)) return true;
  const std::size_t scheme = origin.find("://");
  return scheme != std::string::npos && origin.substr(scheme + 3) == host;
}

std::optional<Response> Server::refuse(const Request& head) {
  if (draining_) return error(503, "the server is shutting down");
  if (!may_ask(head))
    return error(403, "pages of other origins and other names of this machine are refused");
  if (head.method == "OPTIONS" && !head.header("Origin").empty()) return std::nullopt;
  if (!has_key(head)) {
    Response response = error(401, "a wrong API key, or none (Authorization: Bearer KEY)");
    response.headers.emplace_back("WWW-Authenticate", "Bearer");
    return response;
  }
  if (best(head, "") == nullptr) return error(404, fmt::format("{}: no such path", head.path));
  if (best(head, head.method == "HEAD" ? "GET" : head.method) == nullptr) {
    Response response =
        error(405, fmt::format("{} {}: expected {}", head.method, head.path, methods_of(head)));
    response.headers.emplace_back("Allow", methods_of(head));
    return response;
  }
  return std::nullopt;
}

Response Server::answer(const Request& request) {
  Response response;
  if (request.method == "OPTIONS" && !request.header("Origin").empty()) {
    response.status = 204;
    response.headers = {{"Access-Control-Allow-Methods", "GET, POST, DELETE"},
                        {"Access-Control-Allow-Headers", "Authorization, Content-Type"}};
  } else {
    try {
      response = best(request, request.method == "HEAD" ? "GET" : request.method)->handler(request);
    } catch (const std::exception& failure) {
      response = error(500, failure.what());
    }
  }
  if (!request.header("Origin").empty() && allowed_origin(request)) {
    response.headers.emplace_back("Access-Control-Allow-Origin", request.header("Origin"));
    response.headers.emplace_back("Vary", "Origin");
  }
  return response;
}

Response Server::error(int status, const std::string& message) {
  if (options_.error) return options_.error(status, message);
  io::JsonWriter json;
  json.begin_object();
  json.member("error", message);
  json.end_object();
  return {.status = status, .body = json.str()};
}

// The requests of a connection, one after another.
void Server::serve(Connection& connection) {
  const auto crowded = [&] {
    const std::lock_guard lock(threads_->mutex);
    return threads_->threads >= options_.max_connections && threads_->idle == 0;
  };
  bool first = true;
  while (true) {
    const auto until = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                          first ? options_.limits.head : options_.limits.idle);
    bool came = false;
    while (!came && Clock::now() < until) {
      came = connection.wait_readable(kLook);
      if (!came && (draining_ || (!first && crowded()))) return;
    }
    if (!came || !connection.connected()) return;
    if (!protocol_.serve(connection, draining_)) break;
    first = false;
  }
  connection.close_gently();
}

void Server::run(const std::function<bool()>& stopping) {
  Threads& threads = *threads_;
  const auto work = [this, &threads] {
    std::unique_lock lock(threads.mutex);
    while (true) {
      ++threads.idle;
      threads.changed.wait(lock, [&] { return !threads.accepted.empty() || threads.ended; });
      --threads.idle;
      if (threads.accepted.empty()) break;
      const int fd = threads.accepted.back();
      threads.accepted.pop_back();
      threads.open.insert(fd);
      lock.unlock();
      {
        Connection connection{Descriptor(fd)};
        serve(connection);
        lock.lock();
        threads.open.erase(fd);  // before the number is free for another
      }
    }
    --threads.threads;
    threads.changed.notify_all();
  };
  const auto crowded = [&] {
    const std::lock_guard lock(threads.mutex);
    return threads.threads >= options_.max_connections && threads.idle == 0;
  };
  const auto busy = [&] {
    const std::lock_guard lock(threads.mutex);
    return !threads.open.empty() || !threads.accepted.empty();
  };
  Clock::time_point cut_off{};
  while (true) {
    if (stopping && stopping()) draining_ = true;
    if (draining_) {
      if (cut_off == Clock::time_point{})
        cut_off = Clock::now() + std::chrono::duration_cast<Clock::duration>(options_.drain);
      if (!busy()) break;
      if (Clock::now() > cut_off) {
        const std::lock_guard lock(threads.mutex);
        for (const int fd : threads.open) shutdown(fd, SHUT_RDWR);
      }
    }
    if (crowded()) {
      std::this_thread::sleep_for(kLook);
      continue;
    }
    pollfd entry{listening_.get(), POLLIN, 0};
    if (poll(&entry, 1, static_cast<int>(kLook.count())) <= 0) continue;
    const int fd = accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) {
      // No descriptors left: some connection has to end first.
      if (errno == EMFILE || errno == ENFILE) std::this_thread::sleep_for(kLook);
      continue;
    }
    const std::lock_guard lock(threads.mutex);
    threads.accepted.push_back(fd);
    if (threads.idle < static_cast<int>(threads.accepted.size())) {
      try {
        std::thread(work).detach();
        ++threads.threads;
      } catch (const std::system_error&) {
        // No more threads to be had: it waits for one that is there.
      }
    }
    threads.changed.notify_one();
  }
  listening_.close();
  std::unique_lock lock(threads.mutex);
  threads.ended = true;
  threads.changed.notify_all();
  threads.changed.wait(lock, [&] { return threads.threads == 0; });
}

}  // namespace qgrpo::web
