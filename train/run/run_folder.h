#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "model/ops/device_peak.h"
#include "train/options/run.h"

// What a run's folder says about how it was made, besides its metrics, completions and checkpoints:
//   config.toml  the options, as --config reads them: `qgrpo train --config config.toml
//                --output-dir NEW` repeats the run
//   run.json     versions, device, seed, fingerprints of the model and the data, the memory plan; one
//                entry in "starts" for the first start and each resume, with how it ended
namespace qgrpo::train {

struct RunRecord {
  std::string trainer;  // "grpo" or "sft"
  std::string device;   // Backend::description()
  DevicePeak peak;      // of it
  std::uint64_t model_fingerprint = 0;
  std::uint64_t data_fingerprint = 0;
  std::int64_t first_step = 1;
  bool resumed = false;          // goes on from a checkpoint
  std::string options_json;      // a JSON object: RecordedOptions::json
  std::string memory_json = {};  // a JSON object, what the run takes (plan_json); empty: not said
};

// Both files in options.output_dir, from the run's start to its end.
class RunFolder {
 public:
  // Writes them. run.json keeps the starts that it has where the run goes on; one of them that says
  // "running" was killed. Throws Error.
  RunFolder(const RunOptions& options, RunRecord record);
  // How this start has ended: "finished", "interrupted" or "failed", after so many steps. Until then
  // its entry says "running". Throws Error.
  void end(const std::string& status, std::int64_t last_step);

 private:
  void write(const std::string& start) const;
  std::string start_json(const std::string& status, std::int64_t last_step) const;

  std::string folder_;
  std::int64_t threads_;
  std::uint64_t seed_;
  RunRecord record_;
  std::string time_;  // of the start
  std::vector<std::string> earlier_;
};

// Whose run a folder's run.json is of, "grpo" or "sft"; nothing: there is none that this program
// wrote.
std::optional<std::string> recorded_trainer(const std::string& output_dir);

// Now, as 2026-01-31T23:59:59Z.
std::string utc_now();

// program, version, git, compiler, build type, libraries: name -> text.
std::map<std::string, std::string> build_versions();

}  // namespace qgrpo::train
