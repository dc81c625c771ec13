#include "train/run/trackers_wandb.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "model/io/json.h"
#include "model/ops/error.h"

namespace qgrpo::embedded {
extern const std::string_view wandb_bridge;
}

namespace qgrpo::train {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kImportTime = std::chrono::seconds(60);
constexpr auto kFinishTime = std::chrono::seconds(60);
constexpr std::size_t kMostUnsent = std::size_t{16} << 20;

}  // namespace

WandbBridge::WandbBridge(const WandbSettings& settings) {
  std::string python = settings.python;
  if (python.empty()) {
    const char* variable = std::getenv("QGRPO_PYTHON");
    python = variable != nullptr && *variable != '\0' ? variable : "python3";
  }
  std::array<int, 2> ends{};
  require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0,
          "no connection to a process can be made ({})", std::strerror(errno));
  socket_ = ends[0];
  const std::string log_path = settings.output_dir + "/wandb.log";
  const int log_file = open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  // Nothing is imported from the current folder, where a json.py may lie.
  const std::string text =
      "import sys;sys.path[:]=[p for p in sys.path if p]\n" + std::string(embedded::wandb_bridge);
  std::vector<const char*> argv = {python.c_str(), "-c", text.c_str(), nullptr};
  process_ = log_file < 0 ? -1 : fork();
  if (process_ == 0) {
    dup2(ends[1], 0);
    dup2(ends[1], 1);
    dup2(log_file, 2);
    execvp(argv[0], const_cast<char* const*>(argv.data()));
    _exit(127);
  }
  close(ends[1]);
  if (log_file >= 0) close(log_file);
  try {
    require(process_ > 0, "{}: cannot be written, or no process can be started", log_path);
    const auto until = Clock::now() + kImportTime;
    while (!imported_) {
      listen(100);
      require(!closed_, "{} does not start, or ended at once (see {}); --python names another one",
              python, log_path);
      require(Clock::now() < until, "Python takes too long to import wandb (see {})", log_path);
    }
    io::JsonWriter w;
    w.begin_object();
    w.key("init");
    w.begin_object();
    w.member("dir", settings.output_dir);
    if (std::getenv("WANDB_PROJECT") == nullptr) w.member("project", "qgrpo");
    w.key("config");
    w.raw(settings.config);
    if (!settings.run_id.empty()) {
      w.member("id", settings.run_id);
      w.member("resume", "allow");
    }
    w.end_object();
    w.end_object();
    unsent_ = w.str() + "\n";
    flush();
  } catch (...) {
    end_process();
    throw;
  }
}

// Without a wait: where the input ends, the process sends what it has and ends by itself.
WandbBridge::~WandbBridge() {
  if (socket_ >= 0) close(socket_);
  if (process_ > 0) waitpid(process_, nullptr, WNOHANG);
}

void WandbBridge::end_process() {
  close(socket_);
  socket_ = -1;
  if (process_ > 0) {
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
  }
  process_ = -1;
}

void WandbBridge::flush() {
  while (!unsent_.empty()) {
    const ssize_t sent = send(socket_, unsent_.data(), unsent_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) {
      unsent_.erase(0, static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      break;
    } else if (errno != EINTR) {
      listen(0);  // its last words say more
      fail("its process has ended (see wandb.log)");
    }
  }
  require(unsent_.size() <= kMostUnsent, "its process takes no more lines");
}

void WandbBridge::listen(int milliseconds) {
  pollfd wait{socket_, POLLIN, 0};
  while (!closed_ && poll(&wait, 1, milliseconds) > 0) {
    std::array<char, 4096> buffer{};
    const ssize_t got = recv(socket_, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got <= 0) {
      closed_ = true;
      break;
    }
    received_.append(buffer.data(), static_cast<std::size_t>(got));
    for (std::size_t end; (end = received_.find('\n')) != received_.npos;) {
      const std::string line = received_.substr(0, end);
      received_.erase(0, end + 1);
      handle(line);
    }
    milliseconds = 0;
  }
}

void WandbBridge::handle(const std::string& line) {
  io::JsonDocument document;
  const auto message = document.parse(line, "the bridge's answer");
  if (const auto error = message.find("error")) throw Error(error->as_string());
  if (message.find("imported")) imported_ = true;
  if (const auto address = message.find("running")) address_ = address->as_string();
}

void WandbBridge::log(std::int64_t step, const NamedNumbers& values) {
  listen(0);
  io::JsonWriter w;
  w.begin_object();
  w.member("step", step);
  w.key("log");
  w.begin_object();
  for (const auto& [name, value] : values) w.member(name, value);
  w.end_object();
  w.end_object();
  unsent_ += w.str() + "\n";
  flush();
}

std::string WandbBridge::take_address() {
  return std::exchange(address_, "");
}

void WandbBridge::finish() {
  const auto until = Clock::now() + kFinishTime;
  const auto in_time = [&] {
    require(Clock::now() < until, "it has not finished within a minute (see wandb.log)");
  };
  while (!unsent_.empty()) {
    flush();
    listen(unsent_.empty() ? 0 : 20);
    in_time();
  }
  shutdown(socket_, SHUT_WR);
  while (!closed_) {
    listen(100);
    in_time();
  }
  int status = 0;
  waitpid(process_, &status, 0);
  process_ = -1;
  require(WIFEXITED(status) && WEXITSTATUS(status) == 0, "its process has failed (see wandb.log)");
}

}  // namespace qgrpo::train
