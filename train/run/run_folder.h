#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "train/options/run.h"

// What a run's folder says about how it was made, besides its metrics, completions and checkpoints:
//   config.toml  the options, as --config reads them: `qgrpo train --config config.toml
//                --output-dir NEW` repeats the run
//   run.json     versions, device, seed, fingerprints of the model and the data; one entry in
//                "starts" for the first start and each resume
namespace qgrpo::train {

struct RunRecord {
  std::string device;  // Backend::description()
  std::uint64_t model_fingerprint = 0;
  std::uint64_t data_fingerprint = 0;
  std::int64_t first_step = 1;  // above 1: goes on from a checkpoint
  std::string options_json;     // a JSON object: RecordedOptions::json
};

// Writes both files into options.output_dir. run.json keeps the starts that it has where the run
// goes on. Throws Error.
void write_run_folder(const RunOptions& options, const RunRecord& record);

// program, version, git, compiler, build type, libraries: name -> text.
std::map<std::string, std::string> build_versions();

}  // namespace qgrpo::train
