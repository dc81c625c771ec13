#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

// TCP sockets with deadlines.
namespace qgrpo::web {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

// A file descriptor, closed with it.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { close(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void close();
  int release();

 private:
  int fd_ = -1;
};

// Listens on an address. Throws Error in one line where it cannot: the port is taken, the host has no such
// address, the port needs rights. `port` 0: any that is free.
Descriptor listen_on(const std::string& host, int port);
// The port of a listening socket.
int port_of(const Descriptor& listening);
// Whether `host` is this machine alone: 127.0.0.0/8, ::1, localhost.
bool is_loopback(const std::string& host);

// The server's side of one connection. Reads and writes never block for longer than their deadlines, and the
// bytes of a request are counted: a client that sends slowly, or without end, costs little.
class Connection {
 public:
  explicit Connection(Descriptor socket);

  // Waits until the client has sent something. False: it has not in that time.
  bool wait_readable(Seconds longest) const;
  // From now on reads fail after `longest` in all, and after `bytes`.
  void limit_reads(Seconds longest, std::uint64_t bytes);
  // A write fails after so long without progress.
  void limit_writes(Seconds longest) { longest_write_ = longest; }

  // As recv() and send(): bytes, 0 at the end, -1 on failure, also of a limit. send() sends all.
  std::ptrdiff_t read(char* data, std::size_t size);
  std::ptrdiff_t write(const char* data, std::size_t size);
  // Why reads failed, if they did.
  enum class Trouble { none, slow, large, gone };
  Trouble trouble() const { return trouble_; }

  // Whether the client is there: it has neither closed its side nor vanished.
  bool connected() const;
  // Before the end: closes our side, and takes for a moment what still comes. A close with unread bytes would destroy
  // an answer on its way.
  void close_gently();
  // So many bytes of it, instead of 64 KiB.
  void allow_rest(std::uint64_t bytes) { rest_ = bytes; }

  const std::string& remote() const { return remote_; }
  int socket() const { return socket_.get(); }

 private:
  bool wait(short events, Clock::time_point until) const;

  Descriptor socket_;
  std::string remote_;
  Clock::time_point read_until_{};
  std::uint64_t readable_ = 0;
  std::uint64_t rest_ = std::uint64_t{64} << 10;
  Seconds longest_write_{30};
  Trouble trouble_ = Trouble::none;
};

}  // namespace qgrpo::web
