#include "train/grpo/policy.h"

#include <algorithm>
#include <vector>

#include "model/arena.h"
#include "train/options/settings.h"

namespace qgrpo::train {

Policy::Policy(Backend& backend, const TrainOptions& options, const model::LoraConfig& lora,
               std::unique_ptr<model::LoraAdapter> start, const MemoryPlan& plan,
               const std::function<void(std::size_t, std::size_t)>& progress)
    : backend_(&backend),
      optimizer_kind_(options.optimizer.optim),
      optimizer_settings_(optimizer_settings(options.optimizer)),
      adapter_(std::move(start)) {
  backend.reserve(plan.matrix_bytes, plan.workspace);
  model_ = std::make_unique<model::Model>(
      model::Model::load(backend, options.base.model, options.base.quantize, progress));
  if (!adapter_) {
    adapter_ = std::make_unique<model::LoraAdapter>(
        model::LoraAdapter::create(backend, model_->config(), lora, options.run.seed));
  }
  if (uses_reference_adapter(options)) {
    // Its own copy: the trained one moves away from it.
    reference_ = std::make_unique<model::LoraAdapter>(
        model::LoraAdapter::load(backend, model_->config(), options.base.adapter));
    reference_name_ = fmt::format("{:016x}", reference_->fingerprint(backend));
  }
  make_trainable();
  pool_ = backend.allocate(std::max(plan.sampling_bytes, plan.training_bytes));
  model::Arena sampling(pool_->data(), pool_->bytes());
  generator_ = std::make_unique<engine::Generator>(*model_, sampling, plan.generator);
  model::Arena training(pool_->data(), pool_->bytes());
  pass_ = std::make_unique<model::TrainingPass>(*model_, training, plan.pass);
}

Policy::~Policy() = default;

// Gradients and optimizer state of adapter_, which the model then uses.
void Policy::make_trainable() {
  std::vector<const model::LoraAdapter*> adapters = {adapter_.get()};
  if (reference_) adapters.push_back(reference_.get());
  model_->set_adapters(std::move(adapters));
  parameters_ = std::make_unique<model::TrainableParameters>(
      model::TrainableParameters::lora(*model_, *adapter_, kPolicyAdapter));
  optimizer_ =
      std::make_unique<Optimizer>(*backend_, *parameters_, optimizer_kind_, optimizer_settings_);
}

void Policy::load_adapter(const std::string& folder) {
  // The plan has room for one adapter.
  optimizer_.reset();
  parameters_.reset();
  model_->set_adapters({});
  adapter_.reset();
  adapter_ = std::make_unique<model::LoraAdapter>(
      model::LoraAdapter::load(*backend_, model_->config(), folder));
  make_trainable();
}

void Policy::begin_phase() {
#ifndef NDEBUG
  const std::vector<std::uint8_t> ones(std::size_t{1} << 20, 0xff);
  for (std::size_t at = 0; at < pool_->bytes(); at += ones.size()) {
    const std::size_t bytes = std::min(ones.size(), pool_->bytes() - at);
    backend_->upload({static_cast<std::byte*>(pool_->data()) + at,
                      DType::u8,
                      {static_cast<std::int64_t>(bytes)}},
                     ones.data());
    backend_->synchronize();
  }
#endif
}

}  // namespace qgrpo::train
