#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "engine/generator.h"
#include "model/lora.h"
#include "model/model.h"
#include "model/parameters.h"
#include "model/training_pass.h"
#include "train/grpo/options.h"
#include "train/grpo/plan.h"
#include "train/optim/optimizer.h"

namespace qgrpo::train {

// Indices of the model's adapters.
inline constexpr std::int32_t kPolicyAdapter = 0;
inline constexpr std::int32_t kBaseReference = -1;    // the base model, adapter off
inline constexpr std::int32_t kAdapterReference = 1;  // the starting adapter, frozen

// The policy that is trained, with all the memory that its steps take: base model, adapter and its
// frozen copy, gradients, optimizer state, and one pool in which sampling and training take turns.
// Nothing is allocated per step afterwards.
class Policy {
 public:
  // `start`: the adapter of --adapter, or null for a new one of configuration `lora`. `progress` is
  // told bytes read and bytes in all. Throws Error.
  Policy(Backend& backend, const TrainOptions& options, const model::LoraConfig& lora,
         std::unique_ptr<model::LoraAdapter> start, const MemoryPlan& plan,
         const std::function<void(std::size_t, std::size_t)>& progress);
  ~Policy();

  model::Model& model() { return *model_; }
  const model::LoraAdapter& adapter() const { return *adapter_; }
  model::TrainableParameters& parameters() { return *parameters_; }
  const model::TrainableParameters& parameters() const { return *parameters_; }
  Optimizer& optimizer() { return *optimizer_; }
  const Optimizer& optimizer() const { return *optimizer_; }
  // These two share the pool: begin_phase() stands between uses of one and of the other.
  engine::Generator& generator() { return *generator_; }
  model::TrainingPass& pass() { return *pass_; }
  // A phase must not read what the other has left in the pool: in debug builds it finds NaNs there.
  void begin_phase();

  // "base", or the fingerprint of the frozen adapter, hexadecimal.
  const std::string& reference() const { return reference_name_; }

  // Takes a checkpoint's adapter in place of its own. The optimizer begins anew: see
  // load_optimizer(). Throws Error.
  void load_adapter(const std::string& folder);

 private:
  void make_trainable();

  Backend* backend_;
  OptimizerKind optimizer_kind_;
  OptimizerSettings optimizer_settings_;
  std::unique_ptr<model::Model> model_;
  std::unique_ptr<model::LoraAdapter> adapter_;
  std::unique_ptr<model::LoraAdapter> reference_;  // --reference adapter
  std::string reference_name_ = "base";
  std::unique_ptr<model::TrainableParameters> parameters_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Buffer> pool_;
  std::unique_ptr<engine::Generator> generator_;
  std::unique_ptr<model::TrainingPass> pass_;
};

}  // namespace qgrpo::train
