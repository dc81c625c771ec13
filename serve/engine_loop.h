#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/completion_text.h"
#include "engine/generator.h"
#include "engine/owned_generator.h"
#include "engine/scorer.h"
#include "serve/mailbox.h"
#include "serve/metrics.h"

namespace qgrpo::serve {

// A prompt and what is wanted of it.
struct Job {
  engine::GroupRequest request;
  engine::StopWords stops;
  bool skip_special_tokens = true;
  std::int32_t prompt = 0;  // Piece::prompt
  std::shared_ptr<Mailbox> mailbox;
  std::function<void()> ended = {};  // in the loop's thread, once nothing of it runs any more
};

// The one thread that touches model and cache: requests join and leave between any two steps.
class EngineLoop {
 public:
  // What must outlive it: model and tokenizer. `most_waiting`: jobs that wait to be started.
  EngineLoop(const model::Model& model, const tokenizer::Tokenizer& tokenizer,
             const engine::GeneratorCapacity& capacity, std::size_t most_waiting);
  ~EngineLoop();
  EngineLoop(const EngineLoop&) = delete;
  EngineLoop& operator=(const EngineLoop&) = delete;

  // Queues all the jobs of one HTTP request or none. Throws ApiError 429 where too many wait already.
  void submit(std::vector<Job> jobs);
  // The log-probs of given ids (engine/scorer.h), between two steps; blocks until they are there.
  engine::ScoredText score(const std::vector<std::int32_t>& ids, std::int32_t adapter,
                           std::int32_t top);
  // Runs `work` between two steps, in the loop's thread, and hands on what it throws.
  void between_steps(std::function<void()> work);

  const engine::GeneratorCapacity& capacity() const { return generator_.capacity(); }
  const Metrics& metrics() const { return metrics_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Sample {
    engine::CompletionText text;
    std::int64_t tokens = 0;
    Clock::time_point last;
    bool finished = false;
  };
  struct Running {
    Job job;
    std::vector<Sample> samples;
    Clock::time_point began;
    std::size_t unfinished = 0;
  };
  struct Waiting {
    Job job;
    Clock::time_point began;
  };

  void run();
  bool wait();
  void start_jobs();
  void drop_cancelled();
  void step();
  void take(const engine::TokenEvent& event);
  void end(engine::GroupId group, Running& running);
  void fail_all(const std::string& message);
  void update_metrics();

  const tokenizer::Tokenizer* tokenizer_;
  engine::OwnedGenerator generator_;
  engine::Scorer scorer_;
  std::size_t most_waiting_;
  Metrics metrics_;
  std::map<engine::GroupId, Running> running_;  // the generator's, waiting ones too

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Waiting> submitted_;
  std::deque<std::packaged_task<void()>> work_;
  std::size_t waiting_ = 0;  // of the generator's
  bool ending_ = false;

  std::thread thread_;  // last: begins when all else is there
};

}  // namespace qgrpo::serve
