#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace qgrpo::cpu {

// A fixed set of threads that share numbered tasks. Which thread takes which task is left to
// chance, so a task's result must not depend on it: that is how results stay the same for any
// number of threads.
class ThreadPool {
 public:
  // `threads` includes the calling one; at least 1. Throws Error where the system refuses one.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(task, thread) for each task in [0, tasks), thread in [0, threads()), and waits for
  // all of them. The first exception is rethrown here. Must not be nested.
  void parallel_for(std::int64_t tasks,
                    const std::function<void(std::int64_t task, int thread)>& body);

 private:
  void worker(int thread);
  void run_tasks(int thread);
  void stop();

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  const std::function<void(std::int64_t, int)>* body_ = nullptr;
  std::int64_t tasks_ = 0;
  std::atomic<std::int64_t> next_{0};
  std::atomic<int> running_{0};
  std::atomic<std::uint64_t> generation_{0};
  std::atomic<bool> stop_{false};
  std::exception_ptr error_;
};

}  // namespace qgrpo::cpu
