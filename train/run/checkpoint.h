#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "model/lora.h"
#include "train/grpo/experience.h"
#include "train/grpo/options.h"
#include "train/optim/optimizer.h"
#include "train/run/timed_schedule.h"

namespace qgrpo::train {

// Everything but the tensors that a resumed run needs to go on as if it had never stopped. The
// random numbers are keyed by (seed, step, ...), so the step is their whole state.
struct TrainerState {
  std::int64_t global_step = 0;     // optimizer steps done
  std::uint64_t data_position = 0;  // groups taken from the data stream
  std::int64_t num_tokens = 0;
  std::int64_t prompts_truncated = 0;
  std::int64_t skipped_steps = 0;  // steps whose gradient was not finite
  std::int64_t optimizer_step = 0;
  std::uint64_t base_fingerprint = 0;
  std::string reference = "base";        // or the fingerprint of the reference adapter, hexadecimal
  std::uint64_t data_fingerprint = 0;    // of the dataset or replay file
  std::uint64_t metrics_offset = 0;      // bytes of metrics.jsonl
  std::uint64_t completions_offset = 0;  // bytes of completions.jsonl
  std::uint64_t eval_fingerprint = 0;    // of the questions that the best was chosen by
  std::int64_t last_eval_step = 0;
  std::optional<double> best_metric;  // eval_accuracy of the best checkpoint; absent: none yet
  double best_reward = 0.0;           // its eval_reward
  std::int64_t best_global_step = 0;
  std::string best_model_checkpoint;              // its folder
  double elapsed_seconds = 0.0;                   // of training, for --hours
  std::vector<TimedSchedule::Decision> schedule;  // what --hours has decided
  std::vector<double> rewards;                    // mean reward of each step, for the curve
  std::map<std::string, std::string> options;     // that decide the result
};

// The options that decide a run's result, by name, as text.
std::map<std::string, std::string> result_options(const TrainOptions& options);

// OUTPUT_DIR/checkpoint-N.
std::string checkpoint_path(const std::string& output_dir, std::int64_t step);
// Makes a checkpoint folder whose files `write` puts into the folder that it is given: written
// beside `path`, synced, then renamed, so that what has the name is whole. An existing one is
// replaced. Throws Error.
void write_checkpoint(const std::string& path,
                      const std::function<void(const std::string& folder)>& write);

// Writes OUTPUT_DIR/checkpoint-N: adapter_config.json, adapter_model.safetensors (float32),
// optimizer.safetensors, trainer_state.json, and experience.json where the next step goes on with
// the groups at hand (`experience` not null). Returns the path.
std::string save_checkpoint(const std::string& output_dir, const TrainerState& state,
                            const model::LoraAdapter& adapter, Optimizer& optimizer,
                            Backend& backend, const Experience* experience = nullptr);

// Reads trainer_state.json of a checkpoint folder. Throws Error where it is no checkpoint of this
// program.
TrainerState load_trainer_state(const std::string& folder);
// Restores the optimizer of a checkpoint folder.
void load_optimizer(const std::string& folder, const TrainerState& state, Optimizer& optimizer);

// Refuses to continue with other options than the checkpoint's, naming the first that differs
// (max_steps may differ).
void check_same_options(const TrainerState& state, const TrainOptions& options,
                        const std::string& folder);

// The checkpoint folders of a run, by rising step.
std::vector<std::pair<std::int64_t, std::string>> list_checkpoints(const std::string& output_dir);
// Deletes the oldest until at most `limit` are left (0 = keep all), but never that of step `keep`.
void prune_checkpoints(const std::string& output_dir, std::int64_t limit, std::int64_t keep = 0);
// Removes checkpoints, half-written ones, and logs of an earlier run.
void clear_output_dir(const std::string& output_dir);

}  // namespace qgrpo::train
