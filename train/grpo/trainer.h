#pragma once

#include <atomic>
#include <chrono>
#include <map>
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
#include "train/data/dataset.h"
#include "train/data/prompt.h"
#include "train/grpo/experience.h"
#include "train/grpo/options.h"
#include "train/grpo/plan.h"
#include "train/grpo/preflight.h"
#include "train/objective/policy_gradient.h"
#include "train/optim/optimizer.h"
#include "train/reward/scorer.h"
#include "train/run/checkpoint.h"
#include "train/run/console.h"
#include "train/run/timed_schedule.h"
#include "train/run/trackers.h"

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
  const MemoryPlan& plan() const { return plan_; }

 private:
  void load_inputs();
  void load_examples(const std::vector<Reward>& rewards);
  void make_memory();
  void check_room() const;
  void poison_pool();
  void make_trainable();
  void resume();
  // Whether a step (0, 1, ...) begins with sampling, not with the groups at hand.
  bool starts_experience(std::int64_t step) const;
  std::vector<Group> next_groups(Experience& experience, std::int64_t count);
  bool sample_and_score(std::int64_t step, std::span<Group> groups, std::int64_t first_prompt);
  // Describes the first step's first groups, and further prompts' until there are enough, before
  // anything is learned. False when it was interrupted.
  bool preflight(std::span<const Group> groups);
  bool collect(std::int64_t step);
  void keep_old_logprobs(const TokenLogprobs& logprobs);
  // False when it was interrupted: nothing has changed then.
  bool run_step(std::int64_t step);
  void log_step(StepMetrics& metrics, bool fresh);
  std::string save();
  // The run's folder, its trackers, and what --hours has decided (train/grpo/trainer_start.cpp).
  void start_run();
  void count_time();
  double learning_rate_of(std::int64_t step) const;
  void load_evaluation();
  bool evaluation_due() const;
  std::optional<bool> evaluate_policy();
  void drop_superseded_best();
  void forget_best();
  Group group_of(const Example& example, std::int64_t& truncated);

  TrainOptions options_;
  Backend* backend_;
  Console console_;
  TrainerState state_;
  Experience experience_;

  // Inputs.
  std::unique_ptr<tokenizer::Tokenizer> tokenizer_;  // null in a replay
  std::optional<tokenizer::ChatTemplate> chat_template_;
  std::vector<Example> examples_;
  std::optional<DataCursor> cursor_;
  std::vector<Group> recorded_;                   // of a replay
  std::vector<Example> held_out_;                 // by train_split; no part of the training
  std::unique_ptr<RewardScorer> scorer_;          // null in a replay
  std::map<std::string, double> reward_metrics_;  // of reward functions, in the latest round
  std::vector<std::string> reward_names_;

  // Model and memory.
  MemoryPlan plan_;
  std::unique_ptr<model::Model> model_;
  std::unique_ptr<model::LoraAdapter> adapter_;
  std::unique_ptr<model::LoraAdapter> reference_;  // --reference adapter: frozen, index 1
  std::unique_ptr<model::TrainableParameters> parameters_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Buffer> pool_;  // sampling and training in turn
  std::unique_ptr<engine::Generator> generator_;
  std::unique_ptr<model::TrainingPass> pass_;

  std::unique_ptr<LogFile> metrics_log_;
  std::unique_ptr<LogFile> completions_log_;
  std::vector<double> step_times_;
  std::unique_ptr<Trackers> trackers_;
  std::optional<TimedSchedule> timed_;          // with --hours
  std::chrono::steady_clock::time_point mark_;  // what timed_ has counted up to
  std::int64_t truncated_prompts_shown_ = 0;

  // Evaluation (train/grpo/trainer_eval.cpp).
  std::vector<Group> eval_groups_;    // prompts without completions
  std::int64_t superseded_best_ = 0;  // step of the checkpoint that was the best before
};

}  // namespace qgrpo::train
