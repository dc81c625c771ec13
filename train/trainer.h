#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/generator.h"
#include "model/model.h"
#include "model/parameters.h"
#include "model/training_pass.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"
#include "train/checkpoint.h"
#include "train/console.h"
#include "train/dataset.h"
#include "train/optimizer.h"
#include "train/options.h"
#include "train/plan.h"
#include "train/prompt.h"
#include "train/rewards.h"

namespace qgrpo::train {

// Set by the signal handler (Ctrl-C): the run ends at the next safe point, with a checkpoint.
extern std::atomic<bool> stop_requested;

// `qgrpo train`: the built-in demo where no model is named, else a run of the Trainer. Returns the
// exit code.
int run_train(const TrainOptions& options, Backend& backend);

// One GRPO run: for each step, take prompts, sample a group of completions for each, score them,
// turn the scores into advantages, accumulate the policy gradient, clip, update the adapter, log;
// checkpoints on the way.
class Trainer {
 public:
  // Reads and checks everything, plans, prints the plan, allocates, loads. Throws Error before
  // anything is written.
  Trainer(TrainOptions options, Backend& backend);
  ~Trainer();

  // Runs to the last step (or until stop_requested), which always ends in a checkpoint; its path is
  // returned.
  std::string run();

  const std::vector<double>& rewards() const { return state_.rewards; }
  model::Model& model() { return *model_; }

 private:
  void load_inputs();
  void make_memory();
  void make_trainable();
  void resume();
  std::vector<Group> next_groups(std::int64_t step);
  // False when it was interrupted: nothing has changed then.
  bool run_step(std::int64_t step);
  void log_step(StepMetrics& metrics, std::span<const Group> groups);
  std::string save();
  std::vector<std::int32_t> prompt_ids(const Example& example);

  TrainOptions options_;
  Backend* backend_;
  Console console_;
  TrainerState state_;

  // Inputs.
  std::unique_ptr<Tokenizer> tokenizer_;  // null in a replay
  std::optional<ChatTemplate> chat_template_;
  std::vector<Example> examples_;
  std::optional<DataCursor> cursor_;
  std::vector<Group> recorded_;  // of a replay
  std::vector<Reward> rewards_;
  std::vector<std::string> reward_names_;

  // Model and memory.
  MemoryPlan plan_;
  std::unique_ptr<model::Model> model_;
  std::unique_ptr<model::LoraAdapter> adapter_;
  std::unique_ptr<model::TrainableParameters> parameters_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Buffer> pool_;  // sampling and training in turn
  std::unique_ptr<Generator> generator_;
  std::unique_ptr<model::TrainingPass> pass_;

  std::unique_ptr<LogFile> metrics_log_;
  std::unique_ptr<LogFile> completions_log_;
  std::vector<double> step_times_;
  std::int64_t truncated_prompts_shown_ = 0;
};

}  // namespace qgrpo::train
