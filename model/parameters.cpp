#include "model/parameters.h"

#include <cstring>

namespace qgrpo::model {

TrainableParameters TrainableParameters::lora(Model& model, const LoraAdapter& adapter,
                                              std::size_t adapter_index) {
  TrainableParameters t(model);
  t.adapter_ = &adapter;
  const Config& c = model.config();
  t.gradients_.blocks.resize(c.num_layers);
  t.lora_gradients_.resize(c.num_layers);
  const auto place = [&](Arena& arena) {
    t.parameters_.clear();
    for (std::int64_t l = 0; l < c.num_layers; ++l) {
      for (const Projection p : kAllProjections) {
        const auto& f = adapter.at(l, p);
        if (!f.a) continue;
        LoraGradients g{arena.take(DType::f32, f.a.shape), arena.take(DType::f32, f.b.shape)};
        const std::string name = "base_model.model." + f.name;
        t.parameters_.push_back({name + ".lora_A.weight", f.a, g.da});
        t.parameters_.push_back({name + ".lora_B.weight", f.b, g.db});
        auto& by_adapter = t.lora_gradients_[l][p];
        by_adapter.assign(adapter_index + 1, {});
        by_adapter[adapter_index] = g;
        t.gradients_.blocks[l].linears[p].adapters = by_adapter;
      }
    }
  };
  Arena count;
  place(count);
  t.gradient_buffer_ = model.backend().allocate(count.used());
  Arena arena(t.gradient_buffer_->data(), t.gradient_buffer_->bytes());
  place(arena);
  return t;
}

TrainableParameters TrainableParameters::full(Model& model) {
  TrainableParameters t(model);
  const Config& c = model.config();
  Backend& backend = model.backend();
  t.gradients_.blocks.resize(c.num_layers);

  const auto place = [&](Arena& masters, Arena& gradients) {
    t.parameters_.clear();
    t.masters_.clear();
    const auto matrix = [&](const std::string& name, Weight& weight, TensorView& gradient) {
      require(weight.format() == WeightFormat::f32,
              "{}: full-parameter training needs float32 weights", name);
      const Shape shape{weight.rows(), weight.cols()};
      const TensorView master = masters.take(DType::f32, shape);
      gradient = gradients.take(DType::f32, shape);
      t.parameters_.push_back({name, master, gradient});
      t.masters_.emplace_back(&weight, master);
    };
    const auto vector = [&](const std::string& name, TensorView value, TensorView& gradient) {
      gradient = gradients.take(DType::f32, value.shape);
      t.parameters_.push_back({name, value, gradient});
    };
    matrix("model.embed_tokens.weight", model.mutable_embedding(), t.gradients_.dembedding);
    t.gradients_.dlm_head = t.gradients_.dembedding;
    if (model.mutable_lm_head() != nullptr) {
      matrix("lm_head.weight", *model.mutable_lm_head(), t.gradients_.dlm_head);
    }
    for (std::int64_t l = 0; l < c.num_layers; ++l) {
      const Model::Layer& layer = model.layer(l);
      BlockGradients& g = t.gradients_.blocks[l];
      const std::string prefix = fmt::format("model.layers.{}.", l);
      vector(prefix + "input_layernorm.weight", layer.input_norm, g.dinput_norm);
      if (layer.q_norm) vector(prefix + "self_attn.q_norm.weight", layer.q_norm, g.dq_norm);
      if (layer.k_norm) vector(prefix + "self_attn.k_norm.weight", layer.k_norm, g.dk_norm);
      for (const Projection p : kAllProjections) {
        matrix(prefix + projection_path(p) + ".weight", model.mutable_weight(l, p),
               g.linears[p].dweight);
        if (layer.biases[p])
          vector(prefix + projection_path(p) + ".bias", layer.biases[p], g.linears[p].dbias);
      }
      vector(prefix + "post_attention_layernorm.weight", layer.post_attention_norm,
             g.dpost_attention_norm);
    }
    vector("model.norm.weight", model.final_norm(), t.gradients_.dfinal_norm);
  };
  Arena count_masters;
  Arena count_gradients;
  place(count_masters, count_gradients);
  t.master_buffer_ = backend.allocate(count_masters.used());
  t.gradient_buffer_ = backend.allocate(count_gradients.used());
  Arena masters(t.master_buffer_->data(), t.master_buffer_->bytes());
  Arena gradients(t.gradient_buffer_->data(), t.gradient_buffer_->bytes());
  place(masters, gradients);
  std::vector<float> host;
  for (const auto& [weight, master] : t.masters_) {
    host.resize(master.elements());
    backend.unpack(host, *weight);
    backend.upload(master, host.data());
    backend.synchronize();
  }
  return t;
}

std::int64_t TrainableParameters::count() const {
  std::int64_t n = 0;
  for (const auto& p : parameters_) n += p.value.elements();
  return n;
}

std::size_t TrainableParameters::bytes() const {
  return gradient_buffer_->bytes() + (master_buffer_ ? master_buffer_->bytes() : 0);
}

void TrainableParameters::zero_gradients() {
  for (const auto& p : parameters_) model_->backend().layer().zero(p.gradient);
}

// The gradients have the factors' shapes and no shadows.
std::size_t TrainableParameters::lora_bytes(const Config& config, const LoraConfig& lora) {
  return LoraAdapter::bytes(config, lora, DType::f32);
}

std::vector<std::int64_t> TrainableParameters::lora_sizes(const Config& config,
                                                          const LoraConfig& lora) {
  std::vector<std::int64_t> sizes;
  for (std::int64_t l = 0; l < config.num_layers; ++l) {
    for (int i = 0; i < kProjections; ++i) {
      const auto p = static_cast<Projection>(i);
      const std::int64_t rank = lora.module(l, p).r;
      if (rank == 0) continue;
      sizes.push_back(rank * projection_inputs(config, p));
      sizes.push_back(projection_outputs(config, p) * rank);
    }
  }
  return sizes;
}

void TrainableParameters::publish() {
  if (adapter_ != nullptr) adapter_->refresh_shadows(model_->backend());
  for (const auto& [weight, master] : masters_) model_->backend().update(*weight, master);
}

}  // namespace qgrpo::model
