#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "watch/completion_index.h"
#include "watch/metrics.h"
#include "watch/run_record.h"

namespace qgrpo::watch {

// One run's folder, read as it grows.
class Run {
 public:
  // name: what it is called beside the others.
  Run(std::string folder, std::string name);

  // Takes what has come since, a bounded part of it. Whether anything has changed; `more`: there is more to read.
  bool poll(bool& more);

  const std::string& folder() const { return folder_; }
  const std::string& name() const { return name_; }
  const Metrics& metrics() const { return metrics_; }
  const CompletionIndex& completions() const { return completions_; }
  const std::optional<RunRecord>& record() const { return record_; }
  RunState state() const { return state_; }

  // Steps in all; 0: not known.
  std::int64_t max_steps() const;
  // Seconds until it has finished, by the mean of its latest 20 steps; nothing where it does not run or that is
  // not known.
  std::optional<double> seconds_left() const;
  // What is wrong with its files, each in a line.
  std::vector<std::string> troubles() const;
  // The newest line of config.toml .. as it stands, 256 KiB at most; empty: there is none.
  std::string config_toml() const;

 private:
  RunSigns signs() const;

  std::string folder_;
  std::string name_;
  Metrics metrics_;
  CompletionIndex completions_;
  std::optional<RunRecord> record_;
  std::string record_trouble_;
  std::filesystem::file_time_type record_time_;
  RunState state_ = RunState::waiting;
};

// The runs that a name on the command line means: the folder itself; of a checkpoint or a file in it, the folder
// that it lies in; where it is no run, the runs below it (three folders deep, the newest first, 12 at most).
// Throws Error where there is nothing of the name and nothing that could become it.
std::vector<std::string> run_folders(const std::string& name);

// A name for each folder, as short as tells them apart.
std::vector<std::string> short_names(const std::vector<std::string>& folders);

}  // namespace qgrpo::watch
