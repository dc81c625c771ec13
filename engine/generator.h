#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "engine/scheduler.h"
#include "model/arena.h"
#include "model/block.h"
#include "model/model.h"

namespace qgrpo {

// Sizes a Generator is made for.
struct GeneratorCapacity {
  std::int32_t block_size = 16;     // tokens a KV block
  std::int32_t num_blocks = 0;      // KV blocks
  std::int32_t max_sequences = 64;  // completions running at once
  std::int32_t max_tokens = 256;  // rows a step (at least max_sequences); long prompts go in chunks
};

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
  TensorView x;                     // (max_tokens, H)
  model::BlockActivations scratch;  // (max_tokens, ...)
  TensorView head_x;                // (max_sequences, H)
  TensorView head_norm;             // (max_sequences, H)
  TensorView head_rstd;             // (max_sequences) f32

  static GeneratorBuffers place(model::Arena& arena, const model::Config& config, DType dtype,
                                const GeneratorCapacity& capacity);
};

// Runs the scheduler's steps on a model: continuous batching over a paged KV cache. All memory
// comes from the arena.
class Generator {
 public:
  Generator(const model::Model& model, model::Arena& arena, const GeneratorCapacity& capacity);

  // Queues a group; throws Error for ids outside the vocabulary, and where it could never run.
  GroupId add(GroupRequest request);
  bool has_work() const { return scheduler_.has_work(); }
  // Runs one step. The events are one a drawn token, in a fixed order.
  std::vector<TokenEvent> step();
  // Ends one sample now (a stop string was found).
  void finish(GroupId group, std::int32_t sample);
  void cancel_all() { scheduler_.cancel_all(); }
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
  const model::Model* model_;
  Scheduler scheduler_;
  std::int32_t block_size_;
  GeneratorBuffers buffers_;
  std::map<GroupId, std::vector<Completion>> collected_;
};

}  // namespace qgrpo
