#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/sequence.h"
#include "engine/top_logprobs.h"

namespace qgrpo::serve {

// A token that was drawn for a completion.
struct Token {
  std::int32_t id = 0;
  float logprob = 0.0f;
  std::vector<engine::TokenLogprob> top;
};

// What a step has added to one completion of a request.
struct Piece {
  std::int32_t prompt = 0;  // of a request's several prompts
  std::int32_t sample = 0;
  Token token;
  std::string text;                                          // whole characters; may be empty
  engine::FinishReason finish = engine::FinishReason::none;  // not none: the last piece
  std::string stop_string;                                   // that ended it, if one did
  std::optional<std::int32_t> stop_id;                       // likewise
  std::string failure;  // not empty: nothing more comes of this prompt
  int status = 500;     // of the failure
};

// Where the engine's thread leaves the pieces of one HTTP request, and the connection's thread takes them.
class Mailbox {
 public:
  void push(Piece piece) {
    {
      const std::lock_guard lock(mutex_);
      pieces_.push_back(std::move(piece));
    }
    changed_.notify_one();
  }
  // All that has come, once there is something or the time is over.
  std::deque<Piece> take(std::chrono::milliseconds longest) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, longest, [this] { return !pieces_.empty(); });
    return std::exchange(pieces_, {});
  }
  // The client has gone: what runs for it is to end.
  void cancel() { cancelled_ = true; }
  bool cancelled() const { return cancelled_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Piece> pieces_;
  std::atomic<bool> cancelled_{false};
};

}  // namespace qgrpo::serve
