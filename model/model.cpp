#include "model/model.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <map>

#include "model/arena.h"
#include "model/hash.h"
#include "model/io/json.h"
#include "model/io/safetensors.h"
#include "model/ops/rng.h"

namespace qgrpo::model {
namespace {

// The tensors of a checkpoint folder, over one file or several.
class Checkpoint {
 public:
  explicit Checkpoint(const std::string& folder) {
    const std::string single = folder + "/model.safetensors";
    const std::string index = folder + "/model.safetensors.index.json";
    if (std::filesystem::exists(index)) {
      io::JsonDocument document;
      const io::JsonValue map = document.parse_file(index).at("weight_map");
      std::map<std::string, std::size_t> opened;
      for (const auto& [name, value] : map.as_object()) {
        const std::string shard = value.as_string();
        require(shard.find('/') == std::string::npos,
                "{}: found the path \"{}\", expected a file name", value.where(), shard);
        auto [found, fresh] = opened.emplace(shard, files_.size());
        if (fresh) files_.push_back(std::make_unique<io::SafetensorsFile>(folder + "/" + shard));
        const io::SafetensorsFile& file = *files_[found->second];
        require(file.contains(name), "{}: tensor \"{}\" is missing, though {} says it is there",
                file.path(), name, index);
        where_[name] = found->second;
      }
    } else if (std::filesystem::exists(single)) {
      files_.push_back(std::make_unique<io::SafetensorsFile>(single));
      for (const auto& name : files_[0]->names()) where_[name] = 0;
    } else {
      fail(
          "{}: no weights there; expected model.safetensors or model.safetensors.index.json with "
          "its shards",
          folder);
    }
    for (const auto& file : files_) total_ += std::filesystem::file_size(file->path());
    folder_ = folder;
  }

  bool contains(const std::string& name) const { return where_.count(name) != 0; }
  std::size_t total_bytes() const { return total_; }
  std::size_t done_bytes() const { return done_; }
  std::uint64_t fingerprint() const { return hash_.value(); }
  const std::string& path_of(const std::string& name) const {
    return files_[where_.at(name)]->path();
  }

  ConstTensorView tensor(const std::string& name, const Shape& shape) {
    const auto found = where_.find(name);
    if (found == where_.end()) fail("{}: tensor \"{}\" is missing", folder_, name);
    const io::SafetensorsFile& file = *files_[found->second];
    const ConstTensorView view = file.tensor(name);
    require(view.shape == shape, "{}: tensor \"{}\" is {}, but config.json says {}", file.path(),
            name, view.shape.str(), shape.str());
    require(view.dtype == DType::f32 || view.dtype == DType::f16 || view.dtype == DType::bf16,
            "{}: tensor \"{}\" has the type {}, expected F32, F16 or BF16", file.path(), name,
            dtype_name(view.dtype));
    hash_.add(view.data, view.bytes());
    done_ += view.bytes();
    return view;
  }

  // Refuses weights of layers that config.json does not count: it belongs to another checkpoint.
  void check_layers(std::int64_t num_layers) const {
    constexpr std::string_view prefix = "model.layers.";
    for (const auto& [name, file] : where_) {
      if (!name.starts_with(prefix)) continue;
      std::int64_t layer = 0;
      const char* end = name.data() + name.size();
      const auto [stop, error] = std::from_chars(name.data() + prefix.size(), end, layer);
      require(error != std::errc() || layer < num_layers,
              "{}: holds tensor \"{}\", but config.json says num_hidden_layers is {}",
              files_[file]->path(), name, num_layers);
    }
  }

  DType dtype(const std::string& name) const {
    const auto found = where_.find(name);
    if (found == where_.end()) fail("{}: tensor \"{}\" is missing", folder_, name);
    return files_[found->second]->tensor(name).dtype;
  }

  // What was read is not needed again: its pages count towards the process's memory until they are
  // dropped.
  void drop_pages() const {
    for (const auto& file : files_) file->drop_pages();
  }

 private:
  std::string folder_;
  std::vector<std::unique_ptr<io::SafetensorsFile>> files_;
  std::map<std::string, std::size_t> where_;
  std::size_t total_ = 0;
  std::size_t done_ = 0;
  Hash64 hash_;
};

WeightFormat plain_format(DType dtype) {
  return dtype == DType::bf16 ? WeightFormat::bf16 : WeightFormat::f32;
}

std::string layer_tensor(std::int64_t layer, const char* path, const char* kind) {
  return fmt::format("model.layers.{}.{}.{}", layer, path, kind);
}

bool has_bias(Projection p) {
  return p == Projection::q || p == Projection::k || p == Projection::v;
}

}  // namespace

Quantize parse_quantize(const std::string& name) {
  if (name == "nf4") return Quantize::nf4;
  if (name == "none") return Quantize::none;
  fail("quantize: found \"{}\", expected nf4 or none", name);
}

void Model::allocate_small() {
  const auto place = [&](Arena& arena) {
    layers_.resize(static_cast<std::size_t>(config_.num_layers));
    for (auto& layer : layers_) {
      layer.input_norm = arena.take(DType::f32, {config_.hidden_size});
      layer.post_attention_norm = arena.take(DType::f32, {config_.hidden_size});
      for (int i = 0; i < kProjections; ++i) {
        const auto p = static_cast<Projection>(i);
        if (has_bias(p)) {
          layer.biases[static_cast<std::size_t>(i)] =
              arena.take(DType::f32, {projection_outputs(config_, p)});
        }
      }
    }
    final_norm_ = arena.take(DType::f32, {config_.hidden_size});
  };
  Arena count;
  place(count);
  small_ = backend_->allocate(count.used());
  Arena arena(small_->data(), small_->bytes());
  place(arena);
}

Model Model::load(Backend& backend, const std::string& folder, Quantize quantize,
                  const Progress& progress) {
  Model model(backend, load_config(folder));
  const Config& c = model.config_;
  Checkpoint checkpoint(folder);
  checkpoint.check_layers(c.num_layers);
  model.allocate_small();

  const auto vector = [&](TensorView to, const std::string& name) {
    const auto values = io::to_float(checkpoint.tensor(name, to.shape));
    require(std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }),
            "{}: tensor \"{}\" has a value that is not finite", checkpoint.path_of(name), name);
    backend.upload(to, values.data());
    backend.synchronize();
  };
  const auto matrix = [&](const std::string& name, std::int64_t rows, std::int64_t cols,
                          bool linear) {
    const ConstTensorView view = checkpoint.tensor(name, {rows, cols});
    const WeightFormat format =
        linear && quantize == Quantize::nf4 ? WeightFormat::nf4 : plain_format(view.dtype);
    try {
      auto weight = backend.prepare(view, format);
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
    Layer& layer = model.layers_[static_cast<std::size_t>(l)];
    vector(layer.input_norm, layer_tensor(l, "input_layernorm", "weight"));
    vector(layer.post_attention_norm, layer_tensor(l, "post_attention_layernorm", "weight"));
    for (int i = 0; i < kProjections; ++i) {
      const auto p = static_cast<Projection>(i);
      layer.weights[static_cast<std::size_t>(i)] =
          matrix(layer_tensor(l, projection_path(p), "weight"), projection_outputs(c, p),
                 projection_inputs(c, p), true);
      if (has_bias(p)) {
        vector(layer.biases[static_cast<std::size_t>(i)],
               layer_tensor(l, projection_path(p), "bias"));
      }
    }
    checkpoint.drop_pages();
  }
  vector(model.final_norm_, "model.norm.weight");
  model.fingerprint_ = checkpoint.fingerprint();
  model.set_adapters({});
  return model;
}

Model Model::random(Backend& backend, const Config& config, WeightFormat linears,
                    WeightFormat embedding, std::uint64_t seed) {
  Model model(backend, config);
  model.allocate_small();
  std::uint32_t tensor = 0;
  Hash64 hash;
  std::vector<float> host;
  const auto matrix = [&](std::int64_t rows, std::int64_t cols, float deviation,
                          WeightFormat format) {
    Rng rng(seed, RngStream::demo, tensor++, 1);
    host.resize(static_cast<std::size_t>(rows * cols));
    for (float& x : host) x = deviation * rng.normal();
    hash.add(host.data(), host.size() * sizeof(float));
    return backend.prepare(ConstTensorView{host.data(), DType::f32, {rows, cols}}, format);
  };
  const auto ones = [&](TensorView to) {
    const std::vector<float> values(static_cast<std::size_t>(to.elements()), 1.0f);
    backend.upload(to, values.data());
    backend.synchronize();
  };
  const Config& c = model.config_;
  const float deviation = 1.0f / std::sqrt(static_cast<float>(c.hidden_size));
  model.embedding_ = matrix(c.vocab_size, c.hidden_size, 0.05f, embedding);
  if (!c.tie_word_embeddings)
    model.lm_head_ = matrix(c.vocab_size, c.hidden_size, deviation, embedding);
  for (auto& layer : model.layers_) {
    ones(layer.input_norm);
    ones(layer.post_attention_norm);
    for (int i = 0; i < kProjections; ++i) {
      const auto p = static_cast<Projection>(i);
      const bool output = p == Projection::o || p == Projection::down;
      layer.weights[static_cast<std::size_t>(i)] =
          matrix(projection_outputs(c, p), projection_inputs(c, p),
                 output ? deviation / 2 : deviation, linears);
    }
  }
  ones(model.final_norm_);
  model.fingerprint_ = hash.value();
  model.set_adapters({});
  return model;
}

void Model::save(const std::string& folder) const {
  std::filesystem::create_directories(folder);
  save_config(folder, config_);
  std::vector<std::vector<float>> host;
  std::vector<std::pair<std::string, ConstTensorView>> tensors;
  const auto weight = [&](const std::string& name, const Weight& w) {
    host.emplace_back(static_cast<std::size_t>(w.rows() * w.cols()));
    backend_->unpack(host.back(), w);
    tensors.emplace_back(name,
                         ConstTensorView{host.back().data(), DType::f32, {w.rows(), w.cols()}});
  };
  const auto vector = [&](const std::string& name, TensorView view) {
    host.emplace_back(static_cast<std::size_t>(view.elements()));
    backend_->download(host.back().data(), view);
    backend_->synchronize();
    tensors.emplace_back(name, ConstTensorView{host.back().data(), DType::f32, view.shape});
  };
  weight("model.embed_tokens.weight", *embedding_);
  if (lm_head_) weight("lm_head.weight", *lm_head_);
  for (std::int64_t l = 0; l < config_.num_layers; ++l) {
    const Layer& layer = layers_[static_cast<std::size_t>(l)];
    vector(layer_tensor(l, "input_layernorm", "weight"), layer.input_norm);
    vector(layer_tensor(l, "post_attention_layernorm", "weight"), layer.post_attention_norm);
    for (int i = 0; i < kProjections; ++i) {
      const auto p = static_cast<Projection>(i);
      weight(layer_tensor(l, projection_path(p), "weight"),
             *layer.weights[static_cast<std::size_t>(i)]);
      if (has_bias(p))
        vector(layer_tensor(l, projection_path(p), "bias"),
               layer.biases[static_cast<std::size_t>(i)]);
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
    for (std::size_t p = 0; p < kProjections; ++p) {
      for (const LoraAdapter* adapter : adapters_) {
        const auto& f = adapter->at(static_cast<std::int64_t>(l), static_cast<Projection>(p));
        factors_[l][p].push_back({f.a, f.b, f.scale, f.a_shadow, f.b_shadow});
      }
    }
  }
}

Linear Model::linear(std::int64_t layer, Projection p) const {
  const Layer& weights = layers_[static_cast<std::size_t>(layer)];
  const auto i = static_cast<std::size_t>(p);
  return {weights.weights[i].get(), weights.biases[i],
          factors_[static_cast<std::size_t>(layer)][i]};
}

Linear Model::head_linear() const {
  return {&head(), {}, {}};
}

WeightFormats checkpoint_formats(const std::string& folder, Quantize quantize) {
  const Checkpoint checkpoint(folder);
  WeightFormats formats;
  formats.embedding = plain_format(checkpoint.dtype("model.embed_tokens.weight"));
  formats.linears =
      quantize == Quantize::nf4
          ? WeightFormat::nf4
          : plain_format(checkpoint.dtype(layer_tensor(0, "mlp.down_proj", "weight")));
  return formats;
}

std::size_t model_weight_bytes(const BackendSizes& backend, const Config& c, WeightFormat linears,
                               WeightFormat embedding) {
  std::size_t block = 0;
  std::int64_t small = 2 * c.hidden_size;
  for (int i = 0; i < kProjections; ++i) {
    const auto p = static_cast<Projection>(i);
    block += backend.weight_bytes(projection_outputs(c, p), projection_inputs(c, p), linears);
    if (has_bias(p)) small += projection_outputs(c, p);
  }
  const std::size_t heads = c.tie_word_embeddings ? 1 : 2;
  return static_cast<std::size_t>(c.num_layers) * (block + static_cast<std::size_t>(small) * 4) +
         static_cast<std::size_t>(c.hidden_size) * 4 +
         heads * backend.weight_bytes(c.vocab_size, c.hidden_size, embedding);
}

}  // namespace qgrpo::model
