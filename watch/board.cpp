#include "watch/board.h"

#include <thread>

#include "model/io/json.h"
#include "model/ops/error.h"
#include "watch/answers.h"

namespace qgrpo::watch {

Board::Board(const std::vector<std::string>& folders) {
  const std::vector<std::string> names = short_names(folders);
  for (std::size_t i = 0; i < folders.size(); ++i)
    runs_.push_back(std::make_unique<Run>(folders[i], names[i]));
}

// A part of what has come; whether there is more. Who asks has a turn between two parts.
bool Board::poll() {
  bool changed = false;
  bool more = false;
  for (const auto& run : runs_) {
    const std::lock_guard lock(mutex_);
    changed |= run->poll(more);
  }
  if (changed) {
    const std::lock_guard lock(mutex_);
    ++revision_;
  }
  if (changed) changed_.notify_all();
  return more;
}

void Board::follow(const std::function<bool()>& stopping) {
  while (!stopping()) {
    if (!poll()) std::this_thread::sleep_for(std::chrono::milliseconds(400));
  }
}

void Board::read_all() {
  while (poll()) continue;
}

std::string Board::ask(std::int64_t run, const std::function<std::string(const Run&)>& ask) {
  const std::lock_guard lock(mutex_);
  if (run < 0 || run >= static_cast<std::int64_t>(runs_.size()))
    fail("run is {}, expected 0 to {}", run, runs_.size() - 1);
  return ask(*runs_[static_cast<std::size_t>(run)]);
}

std::string Board::overview() {
  const std::lock_guard lock(mutex_);
  io::JsonWriter w;
  w.begin_object();
  w.key("runs");
  w.begin_array();
  for (const auto& run : runs_) w.raw(overview_json(*run));
  w.end_array();
  w.end_object();
  return w.str();
}

std::uint64_t Board::revision() {
  const std::lock_guard lock(mutex_);
  return revision_;
}

std::uint64_t Board::wait(std::uint64_t seen, std::chrono::milliseconds longest) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, longest, [&] { return revision_ > seen; });
  return revision_;
}

}  // namespace qgrpo::watch
