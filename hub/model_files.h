#pragma once

#include <vector>

#include "hub/cache.h"

// What of a repository a model needs.
namespace qgrpo::hub {

// Of a repository's files, those that a model (or an adapter) is loaded from: its configuration,
// its tokenizer and chat template, and its weights as safetensors, from the top folder. Throws
// Error where there are no such weights and no adapter.
std::vector<RepoFile> model_files(const std::vector<RepoFile>& files);
// The same without the weights.
std::vector<RepoFile> description_files(const std::vector<RepoFile>& files);

}  // namespace qgrpo::hub
