#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "train/optim/optimizer.h"

namespace qgrpo::train {

// OUTPUT_DIR/checkpoint-N.
std::string checkpoint_path(const std::string& output_dir, std::int64_t step);
// N of "checkpoint-N"; nothing for another name.
std::optional<std::int64_t> checkpoint_step(const std::string& name);
// Makes a checkpoint folder whose files `write` puts into the folder that it is given: written
// beside `path`, synced, then renamed, so that what has the name is whole. An existing one is
// replaced. Throws Error.
void write_checkpoint(const std::string& path,
                      const std::function<void(const std::string& folder)>& write);

// Restores the optimizer of a checkpoint folder (optimizer.safetensors), which has done `steps`.
// Throws Error.
void load_optimizer(const std::string& folder, std::int64_t steps, Optimizer& optimizer);

// The checkpoint folders of a run, by rising step.
std::vector<std::pair<std::int64_t, std::string>> list_checkpoints(const std::string& output_dir);
// The checkpoint that --resume names: `resume` itself, or the latest one of the run in it; "latest":
// the latest one of `output_dir`. Throws Error that says what is there instead.
std::string find_checkpoint(const std::string& resume, const std::string& output_dir);
// Deletes the oldest until at most `limit` are left (0 = keep all), but never that of step `keep`,
// nor a folder that no run of this program wrote.
void prune_checkpoints(const std::string& output_dir, std::int64_t limit, std::int64_t keep = 0);

}  // namespace qgrpo::train
