#pragma once

#include <functional>
#include <string>

#include "model/config.h"
#include "model/io/json.h"

// A model's configuration in its files.
namespace qgrpo::model {

// Sampling defaults of generation_config.json, or of general.sampling.* in a GGUF file, as `chat`
// honours them. Absent keys keep the neutral value.
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
// Writes both for weights that were made of those of the model at `path`: of a folder its own files,
// every key as it is but quantization_config, which goes, dtype where one is given ("float32"), and
// tie_word_embeddings, which is `config`'s; of a GGUF file what its metadata says. `extend` may add
// members to config.json.
void save_config_like(const std::string& path, const std::string& folder, const Config& config,
                      const std::string& dtype,
                      const std::function<void(io::JsonWriter&)>& extend = {});

}  // namespace qgrpo::model
