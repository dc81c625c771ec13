#pragma once

#include <string>

// What lies at a path that was given as a model or an adapter and is none, and what to type instead.
namespace qgrpo::model {

// Throws Error unless `path` is a folder with config.json or a file that may be a GGUF one: it says
// what is there (an adapter, a training checkpoint, a run's folder, one file of a model, a folder of
// models, nothing) and names the model to give instead where it can be told.
void require_model(const std::string& path);

// The same unless `path` is a folder with adapter_config.json.
void require_adapter(const std::string& path);

// Says of a folder with neither model.safetensors nor its index which weights it has instead.
[[noreturn]] void fail_without_weights(const std::string& folder);

}  // namespace qgrpo::model
