#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "train/run/timed_schedule.h"

namespace qgrpo::train {

// Everything but the tensors that a resumed run needs to go on as if it had never stopped:
// trainer_state.json of a checkpoint. The random numbers are keyed by (seed, step, ...), so the step
// is their whole state.
struct TrainerState {
  std::string trainer = "grpo";     // or sft
  std::int64_t global_step = 0;     // steps done
  std::int64_t num_tokens = 0;      // prompt and completion tokens seen
  std::int64_t skipped_steps = 0;   // steps whose gradient was not finite
  std::int64_t optimizer_step = 0;  // the others
  std::uint64_t base_fingerprint = 0;
  std::uint64_t data_fingerprint = 0;  // of the dataset or replay files
  std::uint64_t metrics_offset = 0;    // bytes of metrics.jsonl
  std::int64_t last_eval_step = 0;
  double elapsed_seconds = 0.0;                   // of training, for --hours
  std::vector<TimedSchedule::Decision> schedule;  // what --hours has decided
  std::map<std::string, std::string> options;     // that decide the result
  // The latest step at whose weights a later one has found nothing wrong (Method, StepOutcome).
  std::int64_t sound_step = 0;

  // GRPO's.
  std::uint64_t data_position = 0;  // groups taken from the data stream
  std::int64_t prompts_truncated = 0;
  std::string reference = "base";        // or the fingerprint of the reference adapter, hexadecimal
  std::uint64_t completions_offset = 0;  // bytes of completions.jsonl
  std::uint64_t eval_fingerprint = 0;    // of the questions that the best was chosen by
  std::optional<double> best_metric;     // eval_accuracy of the best checkpoint; absent: none yet
  double best_reward = 0.0;              // its eval_reward
  std::int64_t best_global_step = 0;
  std::string best_model_checkpoint;  // its folder
  std::vector<double> rewards;        // mean reward of each step, for the curve

  // sft's. The order of the examples is a function of (seed, epoch), so the step is the whole
  // position in the data.
  std::optional<double> eval_loss;  // the latest
};

// Log lines that a checkpoint has because their log did not take them, by the log's name
// (train/run/log_file.h): unwritten_logs.json.
using UnwrittenLogs = std::map<std::string, std::string>;

// Writes trainer_state.json into a checkpoint's folder, with the checksums of the files that are
// there; `unwritten`, where there are such lines, first. In a folder that has them already they are
// replaced, at one moment. Returns the bytes of all files. Throws Error.
std::uint64_t save_trainer_state(const std::string& folder, const TrainerState& state,
                                 const UnwrittenLogs& unwritten = {});
// Throws Error.
UnwrittenLogs load_unwritten_logs(const std::string& folder);

// Reads it; `trainer`: whose checkpoint it must be. Throws Error where it is no checkpoint of this
// program and trainer, or damaged.
TrainerState load_trainer_state(const std::string& folder, const std::string& trainer = "grpo");

// Whose checkpoint a folder is, "grpo" or "sft", by the keys of its trainer_state.json; nothing: none
// of this program, or one that cannot be read.
std::optional<std::string> checkpoint_trainer(const std::string& folder);

// Refuses to continue with other options than the checkpoint's, naming the first that differs
// (max_steps may differ).
void check_same_options(const TrainerState& state,
                        const std::map<std::string, std::string>& options,
                        const std::string& folder);

}  // namespace qgrpo::train
