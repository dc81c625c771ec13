#include "model/lora.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "model/adapter_config.h"
#include "model/formats/path_kind.h"
#include "model/io/file.h"
#include "model/io/hash.h"
#include "model/io/json.h"
#include "model/io/paths.h"
#include "model/io/safetensors.h"
#include "model/ops/rng.h"

namespace qgrpo::model {
namespace {

std::string tensor_name(std::int64_t layer, Projection p, char factor) {
  return fmt::format("base_model.model.{}.lora_{}.weight", module_name(layer, p), factor);
}

// Says of a tensor that is no factor of a linear what it is.
[[noreturn]] void refuse_tensor(const std::string& path, const std::string& name,
                                std::int64_t layers) {
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  if (has("lora_magnitude_vector")) {
    fail("{}: tensor \"{}\" is of a DoRA adapter, which is not supported", path, name);
  }
  if (has("lora_embedding_") || has("embed_tokens") || has("lm_head")) {
    fail("{}: tensor \"{}\": LoRA on the embedding or the head is not supported", path, name);
  }
  if (name.ends_with(".bias")) {
    fail("{}: tensor \"{}\": adapters with biases are not supported", path, name);
  }
  fail(
      "{}: tensor \"{}\" belongs to no linear of this model ({} layers); is this the adapter of "
      "another model?",
      path, name, layers);
}

// Throws Error unless the tensor has the shape.
void check_shape(const io::SafetensorsFile& file, const std::string& name, const Shape& expected) {
  const Shape found = file.shape(name);
  require(found == expected,
          "{}: tensor \"{}\" is {}, expected {}; is this the adapter of another model?",
          file.path(), name, found.str(), expected.str());
}

// What the file's factors are, by linear. Every tensor must be a factor of one of this model's
// linears, and those linears that adapter_config.json names must have them.
LoraConfig factors_in(const io::SafetensorsFile& file, const AdapterConfig& described,
                      const Config& config) {
  const std::string& path = file.path();
  std::set<std::string> unused;
  for (const auto& name : file.names()) unused.insert(name);
  LoraConfig lora = described.lora();
  lora.modules.assign(config.num_layers, {});
  std::set<Projection> present;   // kinds of modules that the file has factors of,
  std::set<Projection> selected;  // and of these those that the configuration names
  std::string missing;            // of a linear that it names
  std::string unnamed;            // a linear with factors that it does not name
  for (std::int64_t l = 0; l < config.num_layers; ++l) {
    for (const Projection p : kAllProjections) {
      const std::string name_a = tensor_name(l, p, 'A');
      const std::string name_b = tensor_name(l, p, 'B');
      const bool named = described.selects(l, p);
      if (!file.contains(name_a) && !file.contains(name_b)) {
        if (named && !described.targets().empty() && missing.empty()) missing = module_name(l, p);
        continue;
      }
      const ModuleLora module = described.module(l, p);
      lora.modules[l][p] = module;
      check_shape(file, name_a, {module.r, projection_inputs(config, p)});
      check_shape(file, name_b, {projection_outputs(config, p), module.r});
      present.insert(p);
      if (named) selected.insert(p);
      if (!named && unnamed.empty()) unnamed = module_name(l, p);
      unused.erase(name_a);
      unused.erase(name_b);
    }
  }
  if (!unused.empty()) refuse_tensor(path, *unused.begin(), config.num_layers);
  require(!present.empty(), "{}: no LoRA factors in it", path);
  require(
      unnamed.empty(),
      "{}: holds factors of {} kinds of modules, but target_modules in adapter_config.json, {}, "
      "names {} of them: not {}",
      path, present.size(), described.targets(), selected.size(), unnamed);
  require(missing.empty(),
          "{}: holds no factors of {}, which target_modules in adapter_config.json names; is this "
          "the adapter of another model?",
          path, missing);
  lora.target_modules.assign(present.begin(), present.end());
  std::vector<PerProjection<bool>> has_factors(lora.modules.size());
  for (std::size_t l = 0; l < lora.modules.size(); ++l) {
    for (const Projection p : kAllProjections) has_factors[l][p] = lora.modules[l][p].r > 0;
  }
  described.note_unmatched(has_factors);
  return lora;
}

// Without `modules` where target_modules, r and lora_alpha say the same.
LoraConfig simplest(const LoraConfig& lora) {
  LoraConfig uniform = lora;
  uniform.modules.clear();
  for (std::size_t l = 0; l < lora.modules.size(); ++l) {
    for (const Projection p : kAllProjections) {
      if (uniform.module(l, p) != lora.module(l, p)) return lora;
    }
  }
  return uniform;
}

}  // namespace

void LoraAdapter::place(Arena& arena, const Config& config, DType activations) {
  factors_.assign(config.num_layers, {});
  for (std::int64_t l = 0; l < config.num_layers; ++l) {
    for (const Projection p : kAllProjections) {
      const ModuleLora module = config_.module(l, p);
      if (module.r == 0) continue;
      Factors& f = factors_[l][p];
      f.a = arena.take(DType::f32, {module.r, projection_inputs(config, p)});
      f.b = arena.take(DType::f32, {projection_outputs(config, p), module.r});
      if (activations == DType::bf16) {
        f.a_shadow = arena.take(DType::bf16, f.a.shape);
        f.b_shadow = arena.take(DType::bf16, f.b.shape);
      }
      f.scale = config_.scale(module);
      f.name = module_name(l, p);
    }
  }
}

LoraAdapter LoraAdapter::allocate(Backend& backend, const Config& config, const LoraConfig& lora) {
  LoraAdapter adapter;
  adapter.config_ = lora;
  Arena count;
  adapter.place(count, config, backend.activation_dtype());
  adapter.buffer_ = backend.allocate(count.used());
  Arena arena(adapter.buffer_->data(), adapter.buffer_->bytes());
  adapter.place(arena, config, backend.activation_dtype());
  return adapter;
}

std::size_t LoraAdapter::bytes(const Config& config, const LoraConfig& lora, DType activations) {
  LoraAdapter counted;
  counted.config_ = lora;
  Arena count;
  counted.place(count, config, activations);
  return count.used();
}

LoraAdapter LoraAdapter::create(Backend& backend, const Config& config, const LoraConfig& lora,
                                std::uint64_t seed) {
  require(lora.r > 0 && lora.r <= 4096, "lora_r is {}, expected 1..4096", lora.r);
  require(std::isfinite(lora.lora_alpha) && lora.lora_alpha > 0,
          "lora_alpha is {}, expected a positive number", lora.lora_alpha);
  LoraAdapter adapter = allocate(backend, config, lora);
  std::vector<float> host;
  for (std::size_t l = 0; l < adapter.factors_.size(); ++l) {
    for (const Projection p : kAllProjections) {
      const Factors& f = adapter.factors_[l][p];
      if (!f.a) continue;
      Rng rng(seed, RngStream::lora_init, static_cast<std::uint32_t>(l),
              static_cast<std::uint32_t>(p));
      const float bound = 1.0f / std::sqrt(static_cast<float>(f.a.shape[1]));
      host.resize(f.a.elements());
      for (float& x : host) x = (2.0f * rng.uniform() - 1.0f) * bound;
      backend.upload(f.a, host.data());
      backend.synchronize();
    }
  }
  adapter.refresh_shadows(backend);
  return adapter;
}

void LoraAdapter::refresh_shadows(Backend& backend) const {
  for (const Layer& layer : factors_) {
    for (const Factors& f : layer) {
      if (!f.a_shadow) continue;
      backend.convert(f.a_shadow, f.a);
      backend.convert(f.b_shadow, f.b);
    }
  }
}

LoraConfig LoraAdapter::shape(const Config& config, const std::string& folder) {
  require_adapter(folder);
  const AdapterConfig described(folder + "/adapter_config.json");
  const std::string path = folder + "/adapter_model.safetensors";
  if (!io::exists(path) && io::exists(folder + "/adapter_model.bin")) {
    fail("{}: holds adapter_model.bin, expected adapter_model.safetensors; save it anew with peft",
         folder);
  }
  return simplest(factors_in(io::SafetensorsFile(path), described, config));
}

LoraAdapter LoraAdapter::load(Backend& backend, const Config& config, const std::string& folder) {
  LoraAdapter adapter = allocate(backend, config, shape(config, folder));
  const std::string path = folder + "/adapter_model.safetensors";
  const io::SafetensorsFile file(path);
  for (std::size_t l = 0; l < adapter.factors_.size(); ++l) {
    for (const Projection p : kAllProjections) {
      const Factors& f = adapter.factors_[l][p];
      if (!f.a) continue;
      for (const char factor : {'A', 'B'}) {
        const std::string name = tensor_name(l, p, factor);
        const auto values = file.values(name);
        require(std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }),
                "{}: tensor \"{}\" has a value that is not finite", path, name);
        backend.upload(factor == 'A' ? f.a : f.b, values.data());
        backend.synchronize();
      }
    }
  }
  adapter.refresh_shadows(backend);
  return adapter;
}

void LoraAdapter::save(const std::string& folder, Backend& backend) const {
  std::vector<std::vector<float>> host;
  std::vector<std::pair<std::string, ConstTensorView>> tensors;
  for (std::size_t l = 0; l < factors_.size(); ++l) {
    for (const Projection p : kAllProjections) {
      const Factors& f = factors_[l][p];
      if (!f.a) continue;
      for (const char factor : {'A', 'B'}) {
        const TensorView view = factor == 'A' ? f.a : f.b;
        host.emplace_back(view.elements());
        backend.download(host.back().data(), view);
        backend.synchronize();
        tensors.emplace_back(tensor_name(l, p, factor),
                             ConstTensorView{host.back().data(), DType::f32, view.shape});
      }
    }
  }
  io::write_safetensors(folder + "/adapter_model.safetensors", tensors, {{"format", "pt"}});

  io::JsonWriter w;
  w.begin_object();
  w.member("peft_type", "LORA");
  w.member("task_type", "CAUSAL_LM");
  w.key("base_model_name_or_path");
  if (config_.base_model_name_or_path.empty()) {
    w.null();
  } else {
    w.value(config_.base_model_name_or_path);
  }
  w.member("r", config_.r);
  w.member("lora_alpha", config_.lora_alpha);
  w.member("lora_dropout", 0.0);
  w.member("use_rslora", config_.use_rslora);
  w.member("use_dora", false);
  w.member("bias", "none");
  w.member("fan_in_fan_out", false);
  w.member("inference_mode", true);
  w.member("init_lora_weights", true);
  w.key("modules_to_save");
  w.null();
  std::vector<std::string> targets;
  if (config_.modules.empty()) {
    for (const auto p : config_.target_modules) targets.emplace_back(projection_name(p));
  } else {
    write_patterns(w, targets);
  }
  w.member("target_modules", targets);
  w.end_object();
  io::write_file_atomically(folder + "/adapter_config.json", w.str() + "\n");
}

// Of an adapter whose linears differ: rank_pattern and alpha_pattern, and the linears' full names.
void LoraAdapter::write_patterns(io::JsonWriter& w, std::vector<std::string>& targets) const {
  const auto each = [&](const auto& visit) {
    for (std::size_t l = 0; l < factors_.size(); ++l) {
      for (const Projection p : kAllProjections) {
        const ModuleLora module = config_.module(l, p);
        if (module.r > 0) visit(module_name(l, p), module);
      }
    }
  };
  each([&](const std::string& name, const ModuleLora&) { targets.push_back(name); });
  w.key("rank_pattern");
  w.begin_object();
  each([&](const std::string& name, const ModuleLora& module) {
    if (module.r != config_.r) w.member(name, module.r);
  });
  w.end_object();
  w.key("alpha_pattern");
  w.begin_object();
  each([&](const std::string& name, const ModuleLora& module) {
    if (module.alpha != config_.lora_alpha) w.member(name, module.alpha);
  });
  w.end_object();
}

std::int64_t LoraAdapter::parameters() const {
  std::int64_t n = 0;
  for (const auto& layer : factors_) {
    for (const auto& f : layer) n += f.a.elements() + f.b.elements();
  }
  return n;
}

std::int64_t LoraAdapter::parameters(const Config& config, const LoraConfig& lora) {
  std::int64_t n = 0;
  for (std::int64_t l = 0; l < config.num_layers; ++l) {
    for (const Projection p : kAllProjections) {
      n += lora.module(l, p).r * (projection_inputs(config, p) + projection_outputs(config, p));
    }
  }
  return n;
}

std::uint64_t LoraAdapter::fingerprint(Backend& backend) const {
  io::Hash64 hash;
  std::vector<float> host;
  for (const auto& layer : factors_) {
    for (const auto& f : layer) {
      for (const TensorView& view : {f.a, f.b}) {
        if (!view) continue;
        host.resize(view.elements());
        backend.download(host.data(), view);
        backend.synchronize();
        hash.add(host.data(), host.size() * sizeof(float));
      }
    }
  }
  return hash.value();
}

}  // namespace qgrpo::model
