#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/config.h"
#include "model/lora_config.h"
#include "model/model.h"
#include "model/ops/memory.h"
#include "model/training_pass.h"

// The one place where a WorkspaceShape is made. It begins with the model; what runs on the model is
// included then: a training pass here, a rollout in engine/capacity.h.
namespace qgrpo::model {

// The shape of a model whose blocks' matrices are kept as `linears`, for batches of no rows yet.
WorkspaceShape workspace_shape(const Config& config, WeightFormat linears,
                               std::vector<std::int64_t> lora_ranks);

// The ranks of an adapter's factors, and those of all adapters of a model: each once, ascending.
std::vector<std::int64_t> lora_ranks(const Config& config, const LoraConfig& lora);
std::vector<std::int64_t> lora_ranks(const Model& model);

// What the optimizer steps over.
struct TrainedSizes {
  std::int64_t tensors = 0;
  std::int64_t elements = 0;  // in all of them
};
// Of tensors with so many elements each.
TrainedSizes trained_sizes(std::span<const std::int64_t> elements);

// Also forward and backward passes of that capacity, and the optimizer.
void include_training(WorkspaceShape& shape, const PassCapacity& pass, const TrainedSizes& trained);

}  // namespace qgrpo::model
