#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "model/model.h"
#include "model/parameters.h"
#include "model/training_pass.h"
#include "train/optim/update.h"
#include "train/run/speed_of_light.h"

// Supervised fine-tuning: the model learns to give a completion to a prompt. docs/demo.md uses it
// for the demo's cold start; it is not bound to it.
namespace qgrpo::train {

struct SftExample {
  std::vector<std::int32_t> prompt;      // ids, at least one; read, not learned
  std::vector<std::int32_t> completion;  // ids, at least one, usually ending in the eos id
  // Which of the completion's ids are learned (1) and which only read (0), as the user's turns
  // between two of the assistant's; empty: all are learned.
  std::vector<std::uint8_t> learned = {};

  std::int64_t length() const {
    return static_cast<std::int64_t>(prompt.size() + completion.size());
  }
  std::int64_t learned_tokens() const;
};

struct SftOptions {
  std::int64_t max_steps = 100;
  double learning_rate = 2e-5;
  std::int64_t warmup_steps = 0;
  // Behind the warm-up the rate falls along half a cosine to this part of learning_rate.
  double final_lr_ratio = 0.1;
  double max_grad_norm = 1.0;  // 0 = no clipping
  OptimizerKind optim = OptimizerKind::adamw_torch;
  OptimizerSettings adamw;
  // Tokens of the largest micro-batch: examples of a step that do not fit together are computed one
  // micro-batch after the other. Bounds the memory, and the length of an example.
  std::int64_t micro_batch_tokens = 2048;
  bool gradient_checkpointing = false;
};

// The rate of optimizer step s = 1, 2, ...: learning_rate() with a cosine, raised behind the
// warm-up to fall to the floor instead of 0: lr (f + (1 - f) (1 + cos) / 2).
double sft_learning_rate(const SftOptions& options, std::int64_t step);

struct SftStep {
  std::int64_t step = 0;            // 1, 2, ...
  double loss = 0.0;                // mean -log p over the learned tokens, nats
  double entropy = 0.0;             // mean entropy of the predictions of those tokens, nats
  double gradient_norm = 0.0;       // before clipping
  ParameterUpdate update;           // what became of it
  double learning_rate = 0.0;       // of this step
  std::int64_t tokens = 0;          // prompt and completion
  std::int64_t learned_tokens = 0;  // those that the loss is over
  TrainingWork work;                // without each example's last token, which predicts nothing
};

// Of a hold-out.
struct SftEvaluation {
  double loss = 0.0;     // mean -log p over the learned tokens, nats
  double entropy = 0.0;  // their mean entropy, nats
  std::int64_t learned_tokens = 0;
};

// Trains what `parameters` holds (all of a float32 model, or an adapter) on the loss
//   mean over the learned tokens of a step of -log p(token | what stands before it).
// Every example is a segment of its own in a packed batch: several share a micro-batch without
// padding, and without seeing each other. All memory is taken when it is made.
class SftTrainer {
 public:
  // adapter: index of the model's LoRA adapter that is trained, -1 = none (full-parameter). `pass`:
  // the capacity of a micro-batch, instead of the one that the options ask for.
  SftTrainer(model::Model& model, model::TrainableParameters& parameters, std::int32_t adapter,
             const SftOptions& options, std::optional<model::PassCapacity> pass = std::nullopt);

  // One optimizer step on these examples, with sft_learning_rate() or the given rate. A loss or
  // gradient that is not finite updates nothing. Throws Error on no examples, an empty prompt or completion,
  // nothing to learn, an id outside the vocabulary, and an example longer than micro_batch_tokens or
  // the model's positions: nothing has changed then.
  SftStep step(std::span<const SftExample> examples, std::optional<double> rate = std::nullopt);
  // The loss of examples without learning from them. Throws Error as step() does.
  SftEvaluation evaluate(std::span<const SftExample> examples);

  Optimizer& optimizer() { return optimizer_; }
  const Optimizer& optimizer() const { return optimizer_; }

 private:
  // What a micro-batch predicts.
  struct Predictions {
    std::vector<std::int32_t> rows;  // of the batch, each predicting the next token
    std::vector<HeadEntry> entries;
  };
  // Sums over tokens.
  struct Sums {
    double loss = 0.0;
    double entropy = 0.0;
  };
  void check(std::span<const SftExample> examples) const;
  // Calls run(micro-batch) for as many neighbours as fit together, until all have been.
  template <typename Run>
  void for_micro_batches(std::span<const SftExample> examples, Run&& run) const;
  Predictions forward(std::span<const SftExample> examples, bool gradient);
  // Forward and backward of one micro-batch. weight: of each token in the step's loss.
  Sums learn(std::span<const SftExample> examples, float weight);

  model::Model* model_;
  model::TrainableParameters* parameters_;
  std::int32_t adapter_;
  SftOptions options_;
  Optimizer optimizer_;
  std::unique_ptr<Buffer> buffer_;  // of pass_
  std::optional<model::TrainingPass> pass_;
};

// The examples of step 1, 2, ...
using SftSource = std::function<std::vector<SftExample>(std::int64_t step)>;
// Called after each step; returning false ends the training there.
using SftProgress = std::function<bool(const SftStep&)>;

// options.max_steps steps; returns all of them: the loss curve. Throws Error where a loss is not
// finite.
std::vector<SftStep> run_sft(model::Model& model, model::TrainableParameters& parameters,
                             std::int32_t adapter, const SftOptions& options,
                             const SftSource& source, const SftProgress& progress = {});

}  // namespace qgrpo::train
