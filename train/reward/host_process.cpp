#include "train/reward/host_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "model/ops/error.h"

namespace qgrpo::train {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kMostAnswer = std::size_t{1} << 30;
constexpr int kScriptDescriptor = 3;

// A descriptor that is closed at the end of its scope.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

// The child gets 0, 1 and 3: what is to become one of them must be none of them before.
int above_the_childs(int fd) {
  const int moved = fcntl(fd, F_DUPFD_CLOEXEC, kScriptDescriptor + 1);
  const int error = errno;
  close(fd);
  require(moved >= 0, "a pipe to a reward's program cannot be made ({})", std::strerror(error));
  return moved;
}

struct Pipe {
  Descriptor read;
  Descriptor write;
};

Pipe make_pipe() {
  int ends[2];
  require(pipe2(ends, O_CLOEXEC) == 0, "a pipe to a reward's program cannot be made ({})",
          std::strerror(errno));
  const int read_end = above_the_childs(ends[0]);
  return Pipe{Descriptor(read_end), Descriptor(above_the_childs(ends[1]))};
}

int script_file(std::string_view script) {
  const int fd = memfd_create("qgrpo-script", MFD_CLOEXEC);
  require(fd >= 0, "a file in memory cannot be made ({})", std::strerror(errno));
  const int file = above_the_childs(fd);
  for (std::size_t at = 0; at < script.size();) {
    const ssize_t wrote = write(file, script.data() + at, script.size() - at);
    require(wrote > 0, "a file in memory cannot be written ({})", std::strerror(errno));
    at += static_cast<std::size_t>(wrote);
  }
  lseek(file, 0, SEEK_SET);
  return file;
}

// write() to a program that may have ended: its error instead of this program's death by SIGPIPE.
ssize_t write_quietly(int fd, const char* data, std::size_t size) {
  sigset_t broken_pipe;
  sigset_t before;
  sigemptyset(&broken_pipe);
  sigaddset(&broken_pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &broken_pipe, &before);
  const ssize_t wrote = write(fd, data, size);
  const int error = errno;
  if (wrote < 0 && error == EPIPE && sigismember(&before, SIGPIPE) == 0) {
    const timespec now{};
    sigtimedwait(&broken_pipe, nullptr, &now);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  return wrote;
}

}  // namespace

LineProcess::LineProcess(const std::vector<std::string>& arguments, std::string_view script) {
  Pipe to_child = make_pipe();
  Pipe from_child = make_pipe();
  const Descriptor file(script.empty() ? -1 : script_file(script));

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, to_child.read.get(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, from_child.write.get(), STDOUT_FILENO);
  if (file.get() >= 0) posix_spawn_file_actions_adddup2(&actions, file.get(), kScriptDescriptor);

  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);

  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const int error = posix_spawnp(&pid_, argv[0], &actions, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  require(error == 0, "{}: cannot be started ({})", arguments[0], std::strerror(error));

  input_ = to_child.write.release();
  output_ = from_child.read.release();
  for (const int fd : {input_, output_}) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

LineProcess::~LineProcess() {
  if (input_ >= 0) close(input_);
  input_ = -1;
  if (!at_end_) wait_for_end(3.0);
  stop();
  if (output_ >= 0) close(output_);
}

bool LineProcess::wait_for_end(double seconds) {
  const auto until = Clock::now() + std::chrono::duration<double>(seconds);
  while (!reaped_) {
    // Not reaped yet: its process group has its number until stop() has ended the whole group.
    siginfo_t info{};
    if (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0)
      return true;
    if (info.si_pid == pid_) return true;
    if (Clock::now() >= until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

void LineProcess::stop() {
  if (reaped_) return;
  kill(-pid_, SIGKILL);
  while (waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
  }
  reaped_ = true;
}

std::string LineProcess::how_it_ended() {
  const bool by_itself = wait_for_end(2.0);
  stop();
  if (!by_itself) return "closed its standard output";
  if (WIFEXITED(status_)) return fmt::format("ended with exit code {}", WEXITSTATUS(status_));
  return fmt::format("was killed by signal {} ({})", WTERMSIG(status_),
                     strsignal(WTERMSIG(status_)));
}

void LineProcess::read_available() {
  while (!at_end_ && buffer_.size() <= kMostAnswer) {
    const std::size_t size = buffer_.size();
    constexpr std::size_t piece = 1 << 16;
    buffer_.resize(size + piece);
    const ssize_t got = read(output_, buffer_.data() + size, piece);
    const int error = errno;
    buffer_.resize(size + (got > 0 ? static_cast<std::size_t>(got) : 0));
    if (got < 0 && error == EINTR) continue;
    if (got < 0 && error == EAGAIN) return;
    at_end_ = got <= 0;
  }
}

std::string LineProcess::unasked_output() {
  read_available();
  return buffer_.substr(0, buffer_.find('\n'));
}

LineProcess::Outcome LineProcess::ask(std::string_view request, std::string& answer,
                                      double timeout_seconds,
                                      const std::function<bool()>& cancelled) {
  const std::string line = std::string(request) + '\n';
  const auto until = Clock::now() + std::chrono::duration<double>(timeout_seconds);
  std::size_t sent = 0;
  std::size_t searched = 0;
  while (true) {
    read_available();
    const std::size_t end = buffer_.find('\n', searched);
    searched = buffer_.size();
    if (end != std::string::npos) {
      answer = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return Outcome::answered;
    }
    if (at_end_) return Outcome::ended;
    if (buffer_.size() > kMostAnswer) return Outcome::overflow;
    if (cancelled && cancelled()) return Outcome::cancelled;
    const double left = std::chrono::duration<double>(until - Clock::now()).count();
    if (left <= 0) return Outcome::timed_out;

    while (sent < line.size()) {
      const ssize_t wrote = write_quietly(input_, line.data() + sent, line.size() - sent);
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0 && errno == EAGAIN) break;
      // It reads no more; what it still has to say decides.
      sent = wrote < 0 ? line.size() : sent + static_cast<std::size_t>(wrote);
    }
    pollfd ends[2] = {{output_, POLLIN, 0}, {input_, POLLOUT, 0}};
    poll(ends, sent < line.size() ? 2 : 1, std::clamp(static_cast<int>(left * 1000) + 1, 1, 100));
  }
}

}  // namespace qgrpo::train
