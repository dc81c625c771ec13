#include "model/workspace.h"

#include <algorithm>
#include <numeric>
#include <set>

namespace qgrpo::model {

WorkspaceShape workspace_shape(const Config& config, WeightFormat linears,
                               std::vector<std::int64_t> lora_ranks) {
  WorkspaceShape shape;
  shape.hidden = config.hidden_size;
  shape.ffn = config.intermediate_size;
  shape.vocab = config.vocab_size;
  shape.attention = config.attention();
  shape.linears = linears;
  shape.lora_ranks = std::move(lora_ranks);
  return shape;
}

std::vector<std::int64_t> lora_ranks(const Config& config, const LoraConfig& lora) {
  std::set<std::int64_t> ranks;
  for (std::int64_t l = 0; l < config.num_layers; ++l) {
    for (const Projection p : kAllProjections) {
      if (const std::int64_t r = lora.module(l, p).r; r > 0) ranks.insert(r);
    }
  }
  return {ranks.begin(), ranks.end()};
}

std::vector<std::int64_t> lora_ranks(const Model& model) {
  std::set<std::int64_t> ranks;
  for (std::int64_t l = 0; l < model.config().num_layers; ++l) {
    for (const Projection p : kAllProjections) {
      for (const LoraFactors& factors : model.linear(l, p).adapters) {
        if (factors.a) ranks.insert(factors.a.shape[0]);
      }
    }
  }
  return {ranks.begin(), ranks.end()};
}

TrainedSizes trained_sizes(std::span<const std::int64_t> elements) {
  return {std::ssize(elements), std::accumulate(elements.begin(), elements.end(), std::int64_t{0})};
}

void include_training(WorkspaceShape& shape, const PassCapacity& pass,
                      const TrainedSizes& trained) {
  shape.tokens = std::max(shape.tokens, pass.tokens);
  shape.head_rows = std::max(shape.head_rows, pass.head_rows);
  shape.training = true;
  shape.trained_tensors = trained.tensors;
  shape.trained_elements = trained.elements;
}

}  // namespace qgrpo::model
