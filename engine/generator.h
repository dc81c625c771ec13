#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "engine/capacity.h"
#include "engine/scheduler.h"
#include "model/arena.h"
#include "model/block.h"
#include "model/model.h"

namespace qgrpo::engine {

// A finished completion. The log-probs are those of SampledToken, one a token.
struct Completion {
  std::vector<std::int32_t> ids;  // including the eos id that ended it
  std::vector<float> logprobs;
  std::vector<float> policy_logprobs;
  std::vector<float> sampled_logprobs;
  FinishReason finish = FinishReason::none;
};

// The memory of a Generator.
struct GeneratorBuffers {
  std::vector<KvCacheLayer> cache;
  TensorView x;                     // (rows, H), rows = max(max_tokens, head rows)
  model::BlockActivations scratch;  // (rows, ...)
  TensorView head_x;                // (head rows, H), head rows = decode_rows(max_sequences)
  TensorView head_norm;             // (head rows, H)
  TensorView head_rstd;             // (head rows) f32

  static GeneratorBuffers place(model::Arena& arena, const model::Config& config, DType dtype,
                                const GeneratorCapacity& capacity);
};

// Runs the scheduler's steps on a model: continuous batching over a paged KV cache. All memory
// comes from the arena. On a backend with DecodeOps samples decode in windows of several tokens,
// which are delivered one a step() all the same: what the caller sees and may do in between does
// not depend on the window.
class Generator {
 public:
  Generator(const model::Model& model, model::Arena& arena, const GeneratorCapacity& capacity);

  // Queues a group; throws Error for ids outside the vocabulary, and where it could never run.
  GroupId add(GroupRequest request);
  bool has_work() const { return scheduler_.has_work() || !undelivered_.empty(); }
  // Runs one step, or delivers the next tokens of a window. The events are one a drawn token and at
  // most one a sample, in a fixed order.
  std::vector<TokenEvent> step();
  // Ends one sample now (a stop string was found): after the last token that was delivered.
  void finish(GroupId group, std::int32_t sample);
  // Drops a group, waiting or running, with its completions so far; its cache blocks are free at once.
  void cancel(GroupId group);
  void cancel_all() {
    scheduler_.cancel_all();
    undelivered_.clear();
  }
  // The completions of a group so far, whose collection ends here: for a group that has finished.
  std::vector<Completion> take(GroupId group) {
    auto node = collected_.extract(group);
    return node.empty() ? std::vector<Completion>{} : std::move(node.mapped());
  }

  // Runs until nothing is left and returns each added group's completions. `on_step` is called
  // after each step with its events; when it returns false everything is cancelled and the result
  // is empty.
  using OnStep = std::function<bool(std::span<const TokenEvent>)>;
  std::map<GroupId, std::vector<Completion>> run(const OnStep& on_step = {});

  const Scheduler& scheduler() const { return scheduler_; }

 private:
  void copy_blocks(const Step& step);
  std::vector<SampledToken> forward(const Step& step);
  void add_top_logprobs(const Step& step, std::vector<TokenEvent>& events);
  std::vector<std::vector<SampledToken>> decode(const Step& step);
  std::uint64_t decode_key() const;
  std::vector<TokenEvent> deliver();

  const model::Model* model_;
  Scheduler scheduler_;
  std::int32_t block_size_;
  std::int32_t window_;  // 0: the backend has no DecodeOps
  std::uint64_t id_;     // different for each generator of the process
  GeneratorBuffers buffers_;
  std::deque<std::vector<TokenEvent>> undelivered_;  // by draw, none empty
  std::map<GroupId, std::vector<Completion>> collected_;
};

}  // namespace qgrpo::engine
