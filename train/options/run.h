#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/io/enum_names.h"
#include "train/options/optimizer.h"
#include "train/options/option_set.h"

namespace qgrpo::train {

// Which checkpoints are sent to the Hub; transformers' names.
enum class HubStrategy { end, every_save };
inline constexpr auto kHubStrategyNames = io::enum_names<HubStrategy>(
    {{HubStrategy::end, "end"}, {HubStrategy::every_save, "every_save"}});

// A run, whatever it trains: where its files go, how long it takes, what it shows. Every field has
// an initializer, so that a command can name the defaults that it changes.
struct RunOptions {
  std::string output_dir = "outputs";
  std::string resume =
      "";  // a run's folder, a checkpoint, or "latest" in output_dir; empty: a new run
  bool overwrite_output_dir = false;
  std::uint64_t seed = 3407;
  // 0: GRPO takes 2000, or in a replay as many as its groups make; sft goes by num_train_epochs
  std::int64_t max_steps = 0;
  double hours = 0.0;  // > 0: max_steps follows from it (train/run/timed_schedule.h); 0 = off
  std::int64_t save_steps = 250;
  std::int64_t save_total_limit = 0;  // 0 = all
  // a console line every so many steps (GRPO's metrics.jsonl has every step)
  std::int64_t logging_steps = 1;
  std::int64_t threads = 0;                 // 0 = all cores
  std::vector<std::string> report_to = {};  // tensorboard, wandb (train/run/trackers.h); or none
  std::string python = "";  // runs rewards and wandb in Python; empty: $QGRPO_PYTHON, else python3

  // Checkpoints go to the Hub while the run goes on (hub/upload.h).
  bool push_to_hub = false;
  std::string hub_model_id = "";  // OWNER/NAME
  HubStrategy hub_strategy = HubStrategy::every_save;
  bool hub_private_repo = false;  // where the repository is made now

  // A checkpoint has been saved, or is the run's result (`last`, which may take long): what to tell.
  std::function<std::string(const std::string& checkpoint, bool last)> after_save = {};
  // The options as a configuration file, for the run's folder; empty: none is written.
  std::string config_toml = "";
  // What goes on with the run, where that is not `--resume OUTPUT_DIR` alone: the demo's.
  std::string resume_command = "";
  // Names of the options that the user set (on the command line or in a file): the demo brings
  // other defaults than a real run, and only for the rest.
  std::vector<std::string> given = {};
};

void describe(RunOptions& options, OptionSet& set);

// A word of a command line, quoted where the shell would read it otherwise.
std::string shell_word(const std::string& text);

// "tensorboard" and "wandb", or "none" alone; throws Error on anything else.
void check_report_to(const std::vector<std::string>& names);
// Throws Error where two of the options contradict each other.
void check_together(const RunOptions& run, const AdamOptions& optimizer);

}  // namespace qgrpo::train
