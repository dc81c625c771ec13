#include "train/sft/plan.h"

#include <vector>

#include "model/arena.h"
#include "model/formats/checkpoint.h"
#include "model/io/bytes.h"
#include "model/model.h"
#include "model/ops/error.h"
#include "model/parameters.h"
#include "model/workspace.h"
#include "train/optim/optimizer.h"

namespace qgrpo::train {
namespace {

// What is trained: how many elements its tensors have, and what it takes beside the optimizer.
struct Trained {
  std::vector<std::int64_t> sizes;
  model::TrainedSizes total;
  std::size_t bytes = 0;
};

Trained trained_parameters(const SftRunOptions& options, const model::Config& config,
                           const model::LoraConfig& lora, const model::ModelBytes& weights,
                           DType activations) {
  Trained out;
  if (options.full) {
    const auto parameters =
        static_cast<std::int64_t>((weights.matrices + weights.small) / sizeof(float));
    out.sizes = {parameters};
    out.total = {2 + config.num_layers * 12 + 1, parameters};
    out.bytes = 2 * static_cast<std::size_t>(parameters) * sizeof(float);  // masters, gradients
    return out;
  }
  out.sizes = model::TrainableParameters::lora_sizes(config, lora);
  out.total = model::trained_sizes(out.sizes);
  out.bytes = model::LoraAdapter::bytes(config, lora, activations) +
              model::TrainableParameters::lora_bytes(config, lora);
  return out;
}

}  // namespace

SftPlan make_sft_plan(const SftRunOptions& options, const model::Config& config,
                      const model::LoraConfig& lora, const BackendSizes& backend,
                      const MemoryBudget& budget) {
  const auto formats = options.full
                           ? model::WeightFormats{WeightFormat::f32, WeightFormat::f32}
                           : model::checkpoint_formats(options.base.model, options.base.quantize);
  const auto weights = model::model_bytes(backend, config, formats.linears, formats.embedding);
  const DType activations = backend.activation_dtype();
  const Trained trained = trained_parameters(options, config, lora, weights, activations);

  SftPlan plan;
  plan.matrix_bytes = weights.matrices;
  model::PassCapacity pass;
  pass.tokens = options.memory.micro_batch_tokens;
  pass.head_rows = options.memory.micro_batch_tokens;
  pass.reference = false;
  plan.workspace = model::workspace_shape(
      config, formats.linears,
      options.full ? std::vector<std::int64_t>{} : model::lora_ranks(config, lora));
  model::include_training(plan.workspace, pass, trained.total);

  const std::size_t fixed = weights.matrices + weights.small + trained.bytes +
                            Optimizer::state_bytes(trained.sizes, options.optimizer.optim) +
                            backend.workspace_bytes(plan.workspace) + backend.runtime_bytes();
  const auto total = [&](const model::PassCapacity& c) {
    model::Arena count;
    model::PassBuffers::place(count, config, activations, c);
    return fixed + count.used();
  };
  plan.pass = place_activations(
      pass, config.num_layers, options.memory.gradient_checkpointing, backend.has_host_store(),
      [&](const model::PassCapacity& c) { return total(c) <= budget.bytes; });
  plan.total_bytes = total(plan.pass);
  plan.host_bytes =
      static_cast<std::size_t>(plan.pass.offloaded_layers * plan.pass.tokens * config.hidden_size) *
      dtype_size(activations);
  require(plan.total_bytes <= budget.most(),
          "the run needs {} of memory, but {} may be used: lower --max-length ({}) or "
          "--micro-batch-tokens ({}){}{}, or raise --device-memory",
          io::format_bytes(plan.total_bytes), io::format_bytes(budget.most()),
          options.batch.max_length, options.memory.micro_batch_tokens,
          options.full ? ", train an adapter instead of --full" : "",
          options.memory.gradient_checkpointing ? "" : ", use --gradient-checkpointing true");
  return plan;
}

}  // namespace qgrpo::train
