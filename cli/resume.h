#pragma once

#include <string>

#include "model/config.h"
#include "train/options/lora.h"
#include "train/options/option_set.h"
#include "train/options/run.h"

// A run knows its own options: what --resume and --adapter bring along.
namespace qgrpo::cli {

// With --resume: finds the checkpoint, and gives every option that the command line leaves out the
// value that the run has had: of config.toml in the run's folder, and of the checkpoint's state
// (adapter and LoRA). Paths that were relative to another working directory are found from there.
// The output folder is the run's own unless another is given. `trainer`: "grpo" or "sft", for
// `command`, "train" or "sft". Throws Error that says what is there instead. Without --resume
// nothing happens.
void take_run_options(train::OptionSet& set, train::RunOptions& run, const std::string& trainer,
                      const std::string& command);

// The shape of the adapter that --adapter names (none: nothing happens) in place of the defaults.
// Throws Error where a --lora-* of the command line contradicts it.
void take_adapter_shape(const train::OptionSet& set, train::LoraOptions& lora,
                        const std::string& adapter, const model::Config& config);

// The command line that goes on with a run that has no config.toml (the demo's): what was given of
// it, and --resume.
std::string resume_command(const train::OptionSet& set, const std::string& command);

}  // namespace qgrpo::cli
