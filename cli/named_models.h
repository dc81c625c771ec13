#pragma once

#include "cli/command_line.h"

#include <memory>
#include <string>
#include <vector>

#include "hub/upload.h"
#include "train/options/data.h"
#include "train/options/run.h"

namespace qgrpo::cli {

// The folder of what --model or --adapter names: itself where it is a path, else a snapshot in the
// Hub's cache, of all files or without the weights. Throws Error.
std::string local_model(const std::string& value, bool weights = true);

// The files of what --dataset names: a path is itself, a data set of the Hub (OWNER/NAME[@REVISION]) the files of
// a split in the Hub's cache (hub/dataset.h). Throws Error.
std::vector<std::string> local_datasets(const std::vector<std::string>& values,
                                        const train::HubDatasetOptions& choice);

// Where --push-to-hub is given: sends the run's checkpoints from now on (RunOptions::after_save, which is set), as long
// as the object lives. `datasets`: the run's files; those of the Hub are named in the model card. Null: not given.
// Throws Error where the Hub refuses the token; where it cannot be asked now, it is told on standard error.
std::unique_ptr<hub::Uploader> upload_checkpoints(train::RunOptions& run,
                                                  const std::vector<std::string>& datasets);

void add_hub_dataset_options(OptionTable& table, train::HubDatasetOptions& choice);

// Where the chosen command's --model or --adapter names a repository of the Hub and no local path,
// fetches the files that it needs into the cache and puts the snapshot's folder in its place. With
// it `--model Qwen/Qwen2.5-3B-Instruct` works everywhere. Throws Error.
void fetch_named_models(CommandLine& line);

}  // namespace qgrpo::cli
