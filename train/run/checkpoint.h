#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "train/optim/optimizer.h"
#include "train/run/checkpoint_manifest.h"

namespace qgrpo::train {

// OUTPUT_DIR/checkpoint-N.
std::string checkpoint_path(const std::string& output_dir, std::int64_t step);
// N of "checkpoint-N"; nothing for another name.
std::optional<std::int64_t> checkpoint_step(const std::string& name);
// PATH, or PATH-2, PATH-3, ...: the first that nothing has.
std::string free_path(const std::string& path);
// Makes a checkpoint folder whose files `write` puts into the folder that it is given: written
// beside `path`, synced, then renamed, so that what has the name is whole; whoever needs the name to
// last syncs the folder that it is in. What has the name already is moved aside. Throws Error.
void write_checkpoint(const std::string& path,
                      const std::function<void(const std::string& folder)>& write);
// Removes a checkpoint folder; one that is half removed has its name no more. Throws Error.
void remove_checkpoint(const std::string& path);

// About the bytes of a checkpoint of these: float32 values, moments, and the small files.
std::uint64_t checkpoint_room(const model::TrainableParameters& parameters,
                              const Optimizer& optimizer);
// Restores the optimizer of a checkpoint folder (optimizer.safetensors), which has done `steps`.
// Throws Error.
void load_optimizer(const std::string& folder, std::int64_t steps, Optimizer& optimizer);

// The checkpoint folders of a run, by rising step.
std::vector<std::pair<std::int64_t, std::string>> list_checkpoints(const std::string& output_dir);
// The checkpoint that --resume names: `resume` itself, or the latest one of the run in it; "latest":
// the latest one of `output_dir`. Throws Error that says what is there instead.
std::string find_checkpoint(const std::string& resume, const std::string& output_dir);
// The newest checkpoint of at most `step` of which every file is as it was saved; empty: there is
// none.
std::string whole_checkpoint(const std::string& output_dir, std::int64_t step);
// Throws Error where a checkpoint is damaged, naming the file and the whole checkpoint before it.
void require_whole(const std::string& checkpoint, Look look = Look::everything);

}  // namespace qgrpo::train
