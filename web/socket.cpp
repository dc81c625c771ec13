#include "web/socket.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "model/ops/error.h"

namespace qgrpo::web {
namespace {

struct AddressListDelete {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};
using AddressList = std::unique_ptr<addrinfo, AddressListDelete>;

AddressList resolve(const std::string& host, const std::string& port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* list = nullptr;
  const int status = getaddrinfo(host.c_str(), port.c_str(), &hints, &list);
  require(status == 0, "{}: no such address: {}", host, gai_strerror(status));
  return AddressList(list);
}

std::string text_of(const sockaddr_storage& address, socklen_t length) {
  std::array<char, NI_MAXHOST> text{};
  const int status = getnameinfo(reinterpret_cast<const sockaddr*>(&address), length, text.data(),
                                 text.size(), nullptr, 0, NI_NUMERICHOST);
  return status == 0 ? text.data() : "";
}

[[noreturn]] void refuse_address(const std::string& host, int port, int error) {
  const char* remedy = "";
  if (error == EADDRINUSE) remedy = "; another program listens there: choose another --port";
  if (error == EACCES) remedy = "; ports below 1024 need rights: choose another --port";
  if (error == EADDRNOTAVAIL) remedy = "; this machine has no such address: choose another --host";
  fail("cannot listen on {}:{}: {}{}", host, port, std::strerror(error), remedy);
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = other.release();
  }
  return *this;
}

void Descriptor::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

int Descriptor::release() {
  return std::exchange(fd_, -1);
}

Descriptor listen_on(const std::string& host, int port) {
  require(port >= 0 && port <= 65535, "port {}: expected 0 to 65535", port);
  const AddressList list = resolve(host, std::to_string(port), AI_PASSIVE);
  int error = EADDRNOTAVAIL;
  for (const addrinfo* entry = list.get(); entry != nullptr; entry = entry->ai_next) {
    Descriptor fd(::socket(entry->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd) {
      error = errno;
      continue;
    }
    // A port is free again as soon as its program has ended; two programs never share one.
    const int on = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd.get(), entry->ai_addr, entry->ai_addrlen) == 0 &&
        ::listen(fd.get(), SOMAXCONN) == 0)
      return fd;
    error = errno;
  }
  refuse_address(host, port, error);
}

int port_of(const Descriptor& listening) {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  require(getsockname(listening.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0,
          "a listening socket has no address: {}", std::strerror(errno));
  if (address.ss_family == AF_INET6)
    return ntohs(reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port);
  return ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
}

bool is_loopback(const std::string& host) {
  in_addr v4{};
  in6_addr v6{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return host == "localhost";
}

Connection::Connection(Descriptor socket) : socket_(std::move(socket)) {
  const int on = 1;
  setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  if (getpeername(socket_.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0)
    remote_ = text_of(address, length);
}

// Whether one of the events, or an end of the connection, came before `until`.
bool Connection::wait(short events, Clock::time_point until) const {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    if (left < 0) return false;
    pollfd entry{socket_.get(), events, 0};
    const int ready = poll(&entry, 1, static_cast<int>(std::min<std::int64_t>(left, 1 << 30)));
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) return false;
  }
}

bool Connection::wait_readable(Seconds longest) const {
  return wait(POLLIN, Clock::now() + std::chrono::duration_cast<Clock::duration>(longest));
}

void Connection::limit_reads(Seconds longest, std::uint64_t bytes) {
  read_until_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(longest);
  readable_ = bytes;
  trouble_ = Trouble::none;
}

std::ptrdiff_t Connection::read(char* data, std::size_t size) {
  if (readable_ == 0) {
    trouble_ = Trouble::large;
    return -1;
  }
  if (!wait(POLLIN, read_until_)) {
    trouble_ = Trouble::slow;
    return -1;
  }
  const auto most = static_cast<std::size_t>(std::min<std::uint64_t>(size, readable_));
  while (true) {
    const ssize_t count = recv(socket_.get(), data, most, MSG_DONTWAIT);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) trouble_ = Trouble::gone;
    if (count > 0) readable_ -= static_cast<std::uint64_t>(count);
    return count;
  }
}

std::ptrdiff_t Connection::write(const char* data, std::size_t size) {
  std::size_t done = 0;
  while (done < size) {
    const ssize_t count =
        send(socket_.get(), data + done, size - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count >= 0) {
      done += static_cast<std::size_t>(count);
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return -1;
    const auto until = Clock::now() + std::chrono::duration_cast<Clock::duration>(longest_write_);
    if (!wait(POLLOUT, until)) return -1;
  }
  return static_cast<std::ptrdiff_t>(size);
}

bool Connection::connected() const {
  pollfd entry{socket_.get(), POLLRDHUP, 0};
  return poll(&entry, 1, 0) <= 0 || (entry.revents & (POLLRDHUP | POLLHUP | POLLERR)) == 0;
}

void Connection::close_gently() {
  shutdown(socket_.get(), SHUT_WR);
  limit_reads(Seconds(2), rest_);
  std::array<char, 16384> taken;
  while (read(taken.data(), taken.size()) > 0) {
  }
}

}  // namespace qgrpo::web
