#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "cli/common.h"
#include "engine/owned_generator.h"

namespace qgrpo::cli {

struct ChatAnswer {
  std::string text;
  std::int64_t prompt_tokens = 0;
  std::int64_t reused_tokens = 0;  // of them, whose keys and values an earlier prompt has left
  std::int64_t tokens = 0;
  double first_seconds = 0.0;  // to the first token
  double seconds = 0.0;        // to the last
  bool cut = false;            // by the request's length
  bool stopped = false;        // by the user
};

// "12 tokens, 31.2 tokens/s; prompt of 80 (64 of them known), first token after 0.21 s"
std::string speed_text(const ChatAnswer& answer);

// Answers one prompt after the other. The KV cache outlives an answer: what a prompt has in common
// with earlier ones of the same policy, the turns of a conversation but for the answers, is not
// computed again; no bit depends on it.
class Answerer {
 public:
  // Both must outlive it.
  Answerer(const LoadedModel& loaded, LazyTokenizer& tokenizer)
      : loaded_(&loaded), tokenizer_(&tokenizer) {}

  // One completion of `request`, which needs prompt, max_new_tokens, adapter and what draws it; `show` gets
  // the text piece by piece. Ends early where `stop` is set.
  ChatAnswer answer(engine::GroupRequest request, const std::atomic<bool>& stop,
                    const std::function<void(const std::string&)>& show);

 private:
  void make_room(const engine::GroupRequest& request);

  const LoadedModel* loaded_;
  LazyTokenizer* tokenizer_;
  std::optional<engine::OwnedGenerator> generator_;
};

}  // namespace qgrpo::cli
