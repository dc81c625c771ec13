#include "model/io/standard_streams.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <iostream>
#include <streambuf>

namespace qgrpo::io {
namespace {

int write_all(int descriptor, std::string_view text) noexcept {
  while (!text.empty()) {
    const ssize_t wrote = ::write(descriptor, text.data(), text.size());
    if (wrote >= 0) {
      text.remove_prefix(static_cast<std::size_t>(wrote));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      // A pipe or terminal that somebody has made non-blocking.
      pollfd room{.fd = descriptor, .events = POLLOUT, .revents = 0};
      if (::poll(&room, 1, -1) < 0 && errno != EINTR) return errno;
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

// std::cout's buffer: unlike the library's, it says why a write has failed.
class StandardOutputBuffer : public std::streambuf {
 public:
  StandardOutputBuffer() { setp(bytes_.data(), bytes_.data() + bytes_.size()); }

 protected:
  int sync() override {
    const std::string_view held(pbase(), static_cast<std::size_t>(pptr() - pbase()));
    // What cannot be written is dropped: it is not tried again when the program ends.
    setp(bytes_.data(), bytes_.data() + bytes_.size());
    const int reason = write_all(STDOUT_FILENO, held);
    if (reason != 0) throw StandardOutputFailed(reason);
    return 0;
  }
  int_type overflow(int_type c) override {
    sync();
    return traits_type::eq_int_type(c, traits_type::eof()) ? traits_type::not_eof(c)
                                                           : sputc(traits_type::to_char_type(c));
  }

 private:
  std::array<char, 1 << 14> bytes_;
};

}  // namespace

StandardOutputFailed::StandardOutputFailed(int reason)
    : Error(fmt::format("standard output: {}", std::strerror(reason))) {}

void set_up_standard_streams() {
  // open() takes the lowest number that is free.
  for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; ++descriptor) {
    if (::fcntl(descriptor, F_GETFD) != -1 || errno != EBADF) continue;
    static_cast<void>(::open("/dev/null", descriptor == STDERR_FILENO ? O_WRONLY : O_RDONLY));
  }
  std::signal(SIGPIPE, SIG_DFL);
  // A handler, not SIG_IGN, which the programs that are started would inherit.
  struct sigaction nothing {};
  nothing.sa_handler = [](int) {};
  nothing.sa_flags = SA_RESTART;
  ::sigaction(SIGXFSZ, &nothing, nullptr);
  // Lives as long as std::cout, which is flushed behind the last destructor.
  static StandardOutputBuffer& buffer = *new StandardOutputBuffer;
  std::cout.rdbuf(&buffer);
  // The buffer's exception instead of a bit that nobody looks at.
  std::cout.exceptions(std::ios::badbit);
  // A read does not write: it would fail for it.
  std::cin.tie(nullptr);
}

void finish_standard_output() {
  if (std::cout.good()) std::cout.flush();
}

int write_standard_output(std::string_view text) noexcept {
  return write_all(STDOUT_FILENO, text);
}

void write_standard_error(std::string_view text) noexcept {
  static_cast<void>(write_all(STDERR_FILENO, text));
}

}  // namespace qgrpo::io
