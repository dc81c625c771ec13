#include "model/model.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "model/arena.h"
#include "model/config_files.h"
#include "model/formats/checkpoint.h"
#include "model/io/hash.h"
#include "model/io/safetensors.h"
#include "model/ops/rng.h"

namespace qgrpo::model {
namespace {

// How a matrix of the checkpoint is kept. The linears of a bitsandbytes checkpoint stay as they
// are, also those that it left out of its quantization.
WeightFormat kept_format(const Checkpoint& checkpoint, const std::string& name, bool linear,
                         Quantize quantize) {
  const Storage storage = checkpoint.storage(name);
  if (linear && storage == Storage::nf4) return WeightFormat::nf4;
  if (linear && quantize == Quantize::nf4 &&
      (!checkpoint.bnb4bit() || storage == Storage::quantized)) {
    return WeightFormat::nf4;
  }
  return storage == Storage::bf16 ? WeightFormat::bf16 : WeightFormat::f32;
}

std::string layer_tensor(std::int64_t layer, const char* path, const char* kind) {
  return fmt::format("model.layers.{}.{}.{}", layer, path, kind);
}

}  // namespace

Quantize parse_quantize(const std::string& name) {
  const auto found = kQuantizeNames.find(name);
  require(found.has_value(), "quantize: found \"{}\", expected {}", name,
          kQuantizeNames.expected());
  return *found;
}

void Model::place_small(Arena& arena) {
  layers_.resize(config_.num_layers);
  for (auto& layer : layers_) {
    layer.input_norm = arena.take(DType::f32, {config_.hidden_size});
    layer.post_attention_norm = arena.take(DType::f32, {config_.hidden_size});
    if (config_.family->head_norms) {
      layer.q_norm = arena.take(DType::f32, {config_.head_dim});
      layer.k_norm = arena.take(DType::f32, {config_.head_dim});
    }
    for (const Projection p : kAllProjections) {
      if (has_bias(*config_.family, p)) {
        layer.biases[p] = arena.take(DType::f32, {projection_outputs(config_, p)});
      }
    }
  }
  final_norm_ = arena.take(DType::f32, {config_.hidden_size});
}

void Model::allocate_small() {
  small_ = backend_->allocate(small_bytes(config_));
  Arena arena(small_->data(), small_->bytes());
  place_small(arena);
}

std::size_t Model::small_bytes(const Config& config) {
  Model counted(nullptr, config);
  Arena count;
  counted.place_small(count);
  return count.used();
}

Model Model::load(Backend& backend, const std::string& path, Quantize quantize,
                  const Progress& progress) {
  Model model(&backend, load_config(path));
  const Config& c = model.config_;
  Checkpoint checkpoint(path);
  checkpoint.check_names(c);
  model.allocate_small();

  const auto vector = [&](TensorView to, const std::string& name) {
    const auto values = checkpoint.values(name, to.shape);
    backend.upload(to, values.data());
    backend.synchronize();
  };
  const auto matrix = [&](const std::string& name, std::int64_t rows, std::int64_t cols,
                          bool linear) {
    const Shape shape{rows, cols};
    StoredMatrix stored = checkpoint.matrix(name, shape);
    if (stored.nf4 && !linear) {  // the embedding and the head are never kept in 4 bits
      stored.values.resize(shape.elements());
      nf4_dequantize(stored.values, *stored.nf4);
      stored.plain = {stored.values.data(), DType::f32, shape};
      stored.nf4.reset();
    }
    try {
      auto weight = stored.nf4 ? backend.prepare(*stored.nf4)
                               : backend.prepare(stored.plain,
                                                 kept_format(checkpoint, name, linear, quantize));
      if (progress) progress(checkpoint.done_bytes(), checkpoint.total_bytes());
      return weight;
    } catch (const Error& error) {
      fail("{}: tensor \"{}\": {}", checkpoint.path_of(name), name, error.what());
    }
  };

  model.embedding_ = matrix("model.embed_tokens.weight", c.vocab_size, c.hidden_size, false);
  checkpoint.drop_pages();
  if (!c.tie_word_embeddings)
    model.lm_head_ = matrix("lm_head.weight", c.vocab_size, c.hidden_size, false);
  for (std::int64_t l = 0; l < c.num_layers; ++l) {
    Layer& layer = model.layers_[l];
    vector(layer.input_norm, layer_tensor(l, "input_layernorm", "weight"));
    vector(layer.post_attention_norm, layer_tensor(l, "post_attention_layernorm", "weight"));
    if (layer.q_norm) vector(layer.q_norm, layer_tensor(l, "self_attn.q_norm", "weight"));
    if (layer.k_norm) vector(layer.k_norm, layer_tensor(l, "self_attn.k_norm", "weight"));
    for (const Projection p : kAllProjections) {
      layer.weights[p] = matrix(layer_tensor(l, projection_path(p), "weight"),
                                projection_outputs(c, p), projection_inputs(c, p), true);
      if (has_bias(*c.family, p)) {
        vector(layer.biases[p], layer_tensor(l, projection_path(p), "bias"));
      }
    }
    checkpoint.drop_pages();
  }
  vector(model.final_norm_, "model.norm.weight");
  model.fingerprint_ = checkpoint.fingerprint();
  model.set_adapters({});
  return model;
}

Model Model::filled(Backend& backend, const Config& config, const MakeMatrix& embedding,
                    const MakeMatrix& linear) {
  Model model(&backend, config);
  model.allocate_small();
  const auto ones = [&](TensorView to) {
    const std::vector<float> values(to.elements(), 1.0f);
    backend.upload(to, values.data());
    backend.synchronize();
  };
  const Config& c = model.config_;
  const float deviation = 1.0f / std::sqrt(static_cast<float>(c.hidden_size));
  model.embedding_ = embedding(c.vocab_size, c.hidden_size, 0.05f);
  if (!c.tie_word_embeddings) model.lm_head_ = embedding(c.vocab_size, c.hidden_size, deviation);
  for (auto& layer : model.layers_) {
    ones(layer.input_norm);
    ones(layer.post_attention_norm);
    if (layer.q_norm) ones(layer.q_norm);
    if (layer.k_norm) ones(layer.k_norm);
    for (const Projection p : kAllProjections) {
      const bool output = p == Projection::o || p == Projection::down;
      layer.weights[p] = linear(projection_outputs(c, p), projection_inputs(c, p),
                                output ? deviation / 2 : deviation);
    }
  }
  ones(model.final_norm_);
  model.set_adapters({});
  return model;
}

Model Model::random(Backend& backend, const Config& config, WeightFormat linears,
                    WeightFormat embedding, std::uint64_t seed) {
  std::uint32_t tensor = 0;
  io::Hash64 hash;
  std::vector<float> host;
  const auto matrix = [&](std::int64_t rows, std::int64_t cols, float deviation,
                          WeightFormat format) {
    Rng rng(seed, RngStream::demo, tensor++, 1);
    host.resize(rows * cols);
    for (float& x : host) x = deviation * rng.normal();
    hash.add(host.data(), host.size() * sizeof(float));
    return backend.prepare(ConstTensorView{host.data(), DType::f32, {rows, cols}}, format);
  };
  Model model = filled(
      backend, config,
      [&](std::int64_t n, std::int64_t k, float std) { return matrix(n, k, std, embedding); },
      [&](std::int64_t n, std::int64_t k, float std) { return matrix(n, k, std, linears); });
  model.fingerprint_ = hash.value();
  return model;
}

Model Model::repeated(Backend& backend, const Config& config, WeightFormat linears) {
  // No multiple of a row, so that rows differ.
  constexpr std::size_t kPeriod = 65'521;
  Rng rng(1, RngStream::demo, 0, 2);
  std::vector<std::uint16_t> values(kPeriod);  // N(0, 1), bf16
  std::vector<std::uint8_t> codes(kPeriod);
  for (std::uint16_t& x : values) x = f32_to_bf16(rng.normal());
  for (std::uint8_t& x : codes) x = static_cast<std::uint8_t>(rng.next_u32());
  const auto fill = [](auto& out, const auto& from, std::size_t count) {
    out.resize(count);
    for (std::size_t i = 0; i < count; i += from.size()) {
      std::copy_n(from.begin(), std::min(from.size(), count - i), out.begin() + i);
    }
  };
  const auto dense = [&](std::int64_t n, std::int64_t k, float deviation) {
    std::vector<std::uint16_t> scaled(values);
    for (std::uint16_t& x : scaled) x = f32_to_bf16(deviation * bf16_to_f32(x));
    std::vector<std::uint16_t> host;
    fill(host, scaled, n * k);
    return backend.prepare(ConstTensorView{host.data(), DType::bf16, {n, k}}, WeightFormat::bf16);
  };
  const auto nf4 = [&](std::int64_t n, std::int64_t k, float deviation) {
    Nf4Tensor tensor;
    tensor.shape = {n, k};
    fill(tensor.packed, codes, (n * k + 1) / 2);
    fill(tensor.absmax, codes, tensor.blocks());
    // Blocks' scales around 2 deviations: what the largest of 64 values is.
    tensor.nested_absmax.assign((tensor.blocks() + kNf4NestedBlock - 1) / kNf4NestedBlock,
                                0.5f * deviation);
    tensor.offset = 2.0f * deviation;
    return backend.prepare(tensor);
  };
  require(linears != WeightFormat::f32, "internal error: repeated weights in float32");
  return linears == WeightFormat::nf4 ? filled(backend, config, dense, nf4)
                                      : filled(backend, config, dense, dense);
}

void Model::save(const std::string& folder) const {
  std::filesystem::create_directories(folder);
  save_config(folder, config_);
  std::vector<std::vector<float>> host;
  std::vector<std::pair<std::string, ConstTensorView>> tensors;
  const auto weight = [&](const std::string& name, const Weight& w) {
    host.emplace_back(w.rows() * w.cols());
    backend_->unpack(host.back(), w);
    tensors.emplace_back(name,
                         ConstTensorView{host.back().data(), DType::f32, {w.rows(), w.cols()}});
  };
  const auto vector = [&](const std::string& name, TensorView view) {
    host.emplace_back(view.elements());
    backend_->download(host.back().data(), view);
    backend_->synchronize();
    tensors.emplace_back(name, ConstTensorView{host.back().data(), DType::f32, view.shape});
  };
  weight("model.embed_tokens.weight", *embedding_);
  if (lm_head_) weight("lm_head.weight", *lm_head_);
  for (std::int64_t l = 0; l < config_.num_layers; ++l) {
    const Layer& layer = layers_[l];
    vector(layer_tensor(l, "input_layernorm", "weight"), layer.input_norm);
    vector(layer_tensor(l, "post_attention_layernorm", "weight"), layer.post_attention_norm);
    if (layer.q_norm) vector(layer_tensor(l, "self_attn.q_norm", "weight"), layer.q_norm);
    if (layer.k_norm) vector(layer_tensor(l, "self_attn.k_norm", "weight"), layer.k_norm);
    for (const Projection p : kAllProjections) {
      weight(layer_tensor(l, projection_path(p), "weight"), *layer.weights[p]);
      if (layer.biases[p]) vector(layer_tensor(l, projection_path(p), "bias"), layer.biases[p]);
    }
  }
  vector("model.norm.weight", final_norm_);
  io::write_safetensors(folder + "/model.safetensors", tensors, {{"format", "pt"}});
}

std::size_t Model::weight_bytes() const {
  std::size_t bytes = embedding_->bytes() + (lm_head_ ? lm_head_->bytes() : 0) + small_->bytes();
  for (const auto& layer : layers_) {
    for (const auto& w : layer.weights) bytes += w->bytes();
  }
  return bytes;
}

void Model::set_adapters(std::vector<const LoraAdapter*> adapters) {
  adapters_ = std::move(adapters);
  factors_.assign(layers_.size(), {});
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    for (const Projection p : kAllProjections) {
      for (const LoraAdapter* adapter : adapters_) {
        LoraAdapter::Factors f;
        if (adapter != nullptr) f = adapter->at(l, p);
        factors_[l][p].push_back({f.a, f.b, f.scale, f.a_shadow, f.b_shadow});
      }
    }
  }
}

Linear Model::linear(std::int64_t layer, Projection p) const {
  const Layer& weights = layers_[layer];
  return {weights.weights[p].get(), weights.biases[p], factors_[layer][p]};
}

Linear Model::head_linear() const {
  return {&head(), {}, {}};
}

WeightFormats checkpoint_formats(const std::string& path, Quantize quantize) {
  const Checkpoint checkpoint(path);
  WeightFormats formats;
  formats.embedding = kept_format(checkpoint, "model.embed_tokens.weight", false, quantize);
  formats.linears =
      kept_format(checkpoint, layer_tensor(0, "mlp.down_proj", "weight"), true, quantize);
  return formats;
}

ModelBytes model_bytes(const BackendSizes& backend, const Config& c, WeightFormat linears,
                       WeightFormat embedding) {
  std::size_t block = 0;
  for (const Projection p : kAllProjections) {
    block += backend.weight_bytes(projection_outputs(c, p), projection_inputs(c, p), linears);
  }
  const std::size_t heads = c.tie_word_embeddings ? 1 : 2;
  return {static_cast<std::size_t>(c.num_layers) * block +
              heads * backend.weight_bytes(c.vocab_size, c.hidden_size, embedding),
          Model::small_bytes(c)};
}

}  // namespace qgrpo::model
