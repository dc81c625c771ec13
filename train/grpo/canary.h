#pragma once

#include <cstdint>

#include "model/lora.h"
#include "model/model.h"

namespace qgrpo::train {

// Proof, before a step samples, that sampling and training read the adapter as the last update has left
// it: the model's linears refer to its factors and, where the backend computes with bf16 shadows,
// these are the masters' values rounded. One module a step, another each time, so that a run looks
// at all of them; what it costs is the download of one module. That both then compute the same is
// proven after it, by the difference of their log-probs (GrpoTrainer::check). Throws Error that names
// the module and the factor.
void check_published(const model::Model& model, const model::LoraAdapter& adapter,
                     std::int32_t index, std::int64_t step);

}  // namespace qgrpo::train
