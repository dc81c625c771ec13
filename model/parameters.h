#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/block.h"
#include "model/model.h"

namespace qgrpo::model {

// One trained tensor: float32 master value and gradient, of the same shape.
struct Parameter {
  std::string name;  // as in the checkpoint that holds it (peft's or Hugging Face's name)
  TensorView value;
  TensorView gradient;
};

// Where the whole model's gradients go.
struct ModelGradients {
  std::vector<BlockGradients> blocks;
  TensorView dembedding;   // (V, H) += or null
  TensorView dlm_head;     // (V, H) += or null; the same view as dembedding when tied
  TensorView dfinal_norm;  // (H) += or null
};

// What is trained: the factors of one adapter, or every parameter of a small model. Owns the
// gradients (and, for full training, the float32 masters), and the order in which norms and
// optimizer states run through the tensors.
class TrainableParameters {
 public:
  // The factors of the adapter with this index in the model (base frozen). After each optimizer
  // step, publish() makes the adapter's shadows anew. The adapter must stay where it is.
  static TrainableParameters lora(Model& model, const LoraAdapter& adapter,
                                  std::size_t adapter_index);
  // All parameters of a model whose weights are all f32. After each optimizer step, publish() hands
  // the masters to the model's weights.
  static TrainableParameters full(Model& model);

  const std::vector<Parameter>& parameters() const { return parameters_; }
  const ModelGradients& gradients() const { return gradients_; }
  std::int64_t count() const;
  std::size_t bytes() const;  // of gradients and masters
  // What lora() allocates for the gradients, without making anything.
  static std::size_t lora_bytes(const Config& config, const LoraConfig& lora);
  // The element counts of the tensors that lora() trains: A (r, K) and B (N, r) of each projection.
  static std::vector<std::int64_t> lora_sizes(const Config& config, const LoraConfig& lora);
  void zero_gradients();
  void publish();

 private:
  explicit TrainableParameters(Model& model) : model_(&model) {}

  Model* model_;
  const LoraAdapter* adapter_ = nullptr;  // of lora()
  std::vector<Parameter> parameters_;
  std::vector<std::pair<Weight*, TensorView>> masters_;
  ModelGradients gradients_;
  // Per layer, by adapter: what the blocks' spans point to.
  std::vector<PerProjection<std::vector<LoraGradients>>> lora_gradients_;
  std::unique_ptr<Buffer> gradient_buffer_;
  std::unique_ptr<Buffer> master_buffer_;
};

}  // namespace qgrpo::model
