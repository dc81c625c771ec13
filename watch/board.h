#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "watch/run.h"

namespace qgrpo::watch {

// The runs that are shown, kept up to date by one thread and asked by others.
class Board {
 public:
  explicit Board(const std::vector<std::string>& folders);

  // Reads what has come until `stopping` says so, which is asked at least twice a second.
  void follow(const std::function<bool()>& stopping);
  // Reads all there is, once.
  void read_all();

  // What `ask` returns of the run, which stays as it is meanwhile. Throws Error where there is no such run.
  std::string ask(std::int64_t run, const std::function<std::string(const Run&)>& ask);
  // {"runs": [overview_json, ..]}
  std::string overview();

  // Somebody who is told of changes, while it lives.
  class Watcher {
   public:
    explicit Watcher(Board& board) : board_(&board) { ++board_->watchers_; }
    ~Watcher() { --board_->watchers_; }
    Watcher(const Watcher&) = delete;
    Watcher& operator=(const Watcher&) = delete;

   private:
    Board* board_;
  };
  bool watched() const { return watchers_ > 0; }

  // Grows with every change.
  std::uint64_t revision();
  // Waits until it is above `seen`, or so long; returns it.
  std::uint64_t wait(std::uint64_t seen, std::chrono::milliseconds longest);

  // Not while follow() runs.
  const std::vector<std::unique_ptr<Run>>& runs() const { return runs_; }

 private:
  bool poll();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t revision_ = 1;
  std::atomic<int> watchers_{0};
  std::vector<std::unique_ptr<Run>> runs_;
};

}  // namespace qgrpo::watch
