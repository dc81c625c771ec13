#pragma once

#include <string>

#include "model/config.h"

// A model's configuration in its files.
namespace qgrpo::model {

// Sampling defaults of generation_config.json, as `chat` honours them. Absent keys keep the neutral
// value.
struct GenerationDefaults {
  SamplingParams sampling;
  bool found = false;
};

// Reads and checks config.json (both the 4.x spelling, rope_theta, and the 5.x one, rope_parameters)
// and the token ids of generation_config.json of a Hugging Face folder, or the metadata of a GGUF
// file. Throws Error naming file and key.
Config load_config(const std::string& folder);
GenerationDefaults load_generation_defaults(const std::string& folder);
// Writes config.json and generation_config.json of a float32 model.
void save_config(const std::string& folder, const Config& config);

}  // namespace qgrpo::model
