#include "model/lora.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>

#include "model/arena.h"
#include "model/hash.h"
#include "model/io/file.h"
#include "model/io/json.h"
#include "model/io/safetensors.h"
#include "model/ops/rng.h"

namespace qgrpo::model {
namespace {

std::string module_name(std::int64_t layer, Projection p) {
  return fmt::format("model.layers.{}.{}", layer, projection_path(p));
}

std::string tensor_name(std::int64_t layer, Projection p, char factor) {
  return fmt::format("base_model.model.{}.lora_{}.weight", module_name(layer, p), factor);
}

std::optional<Projection> find_projection(std::string_view name) {
  for (int p = 0; p < kProjections; ++p) {
    if (name == projection_name(static_cast<Projection>(p))) return static_cast<Projection>(p);
  }
  return std::nullopt;
}

bool flag(const io::JsonValue& root, const char* key) {
  const auto value = root.find(key);
  return value && !value->is_null() && value->as_bool();
}

bool not_empty(const io::JsonValue& root, const char* key) {
  const auto value = root.find(key);
  if (!value || value->is_null()) return false;
  if (value->is_object()) return !value->as_object().empty();
  if (value->is_array()) return !value->as_array().empty();
  return true;
}

LoraConfig read_adapter_config(const std::string& path) {
  io::JsonDocument document;
  const io::JsonValue root = document.parse_file(path);
  const std::string type = root.at("peft_type").as_string();
  require(type == "LORA", "{}: the peft_type is \"{}\", expected \"LORA\"", path, type);
  require(!flag(root, "use_dora"), "{}: use_dora is true; DoRA adapters are not supported", path);
  require(!flag(root, "lora_bias"), "{}: lora_bias is true; adapters with biases are not supported",
          path);
  require(!flag(root, "fan_in_fan_out"), "{}: fan_in_fan_out is true, which no Qwen2 adapter has",
          path);
  if (const auto bias = root.find("bias");
      bias && !bias->is_null() && bias->as_string_view() != "none") {
    fail("{}: bias is \"{}\", expected \"none\"", path, bias->as_string_view());
  }
  for (const char* key : {"modules_to_save", "rank_pattern", "alpha_pattern", "layers_to_transform",
                          "layer_replication", "target_parameters", "trainable_token_indices",
                          "alora_invocation_tokens", "arrow_config"}) {
    require(!not_empty(root, key), "{}: {} is set, which is not supported", path, key);
  }
  LoraConfig c;
  c.r = root.at("r").as_int();
  require(c.r > 0, "{}: r is {}, expected a positive rank", path, c.r);
  c.lora_alpha = root.at("lora_alpha").as_double();
  c.use_rslora = flag(root, "use_rslora");
  require(std::isfinite(c.scale(c.r)), "{}: lora_alpha is {}, too large for float32", path,
          c.lora_alpha);
  if (const auto base = root.find("base_model_name_or_path"); base && base->is_string()) {
    c.base_model_name_or_path = base->as_string();
  }
  // A list names modules, perhaps with a path before them; a pattern, or nothing, is left to the
  // tensors.
  if (const auto targets = root.find("target_modules"); targets && targets->is_array()) {
    std::vector<std::string> names;
    for (const auto& target : targets->as_array()) {
      const std::string name = target.as_string();
      names.push_back(name.substr(name.rfind('.') + 1));
    }
    try {
      c.target_modules = parse_target_modules(names);
    } catch (const Error& error) {
      fail("{}: {}", targets->where(), error.what());
    }
  } else {
    c.target_modules.clear();
  }
  return c;
}

}  // namespace

float LoraConfig::scale(std::int64_t rank) const {
  const double divisor =
      use_rslora ? std::sqrt(static_cast<double>(rank)) : static_cast<double>(rank);
  return static_cast<float>(lora_alpha / divisor);
}

std::vector<Projection> parse_target_modules(const std::vector<std::string>& names) {
  std::set<int> found;
  for (const auto& name : names) {
    if (name == "all-linear") {
      for (int p = 0; p < kProjections; ++p) found.insert(p);
      continue;
    }
    const auto p = find_projection(name);
    if (!p) {
      fail(
          "target module \"{}\" is unknown; expected q_proj, k_proj, v_proj, o_proj, gate_proj, "
          "up_proj, down_proj or "
          "all-linear",
          name);
    }
    found.insert(static_cast<int>(*p));
  }
  require(!found.empty(), "no target module is named; LoRA needs at least one");
  std::vector<Projection> out;
  for (const int p : found) out.push_back(static_cast<Projection>(p));
  return out;
}

LoraAdapter LoraAdapter::allocate(Backend& backend, const Config& config, const LoraConfig& lora,
                                  const Ranks& ranks) {
  LoraAdapter adapter;
  adapter.config_ = lora;
  const auto place = [&](Arena& arena) {
    adapter.factors_.assign(static_cast<std::size_t>(config.num_layers), {});
    for (std::int64_t l = 0; l < config.num_layers; ++l) {
      for (int i = 0; i < kProjections; ++i) {
        const auto p = static_cast<Projection>(i);
        const std::int64_t r = ranks[static_cast<std::size_t>(l)][static_cast<std::size_t>(i)];
        if (r == 0) continue;
        Factors& f = adapter.factors_[static_cast<std::size_t>(l)][static_cast<std::size_t>(i)];
        f.a = arena.take(DType::f32, {r, projection_inputs(config, p)});
        f.b = arena.take(DType::f32, {projection_outputs(config, p), r});
        if (backend.activation_dtype() == DType::bf16) {
          f.a_shadow = arena.take(DType::bf16, f.a.shape);
          f.b_shadow = arena.take(DType::bf16, f.b.shape);
        }
        f.scale = lora.scale(r);
        f.name = module_name(l, p);
      }
    }
  };
  Arena count;
  place(count);
  adapter.buffer_ = backend.allocate(count.used());
  Arena arena(adapter.buffer_->data(), adapter.buffer_->bytes());
  place(arena);
  return adapter;
}

LoraAdapter LoraAdapter::create(Backend& backend, const Config& config, const LoraConfig& lora,
                                std::uint64_t seed) {
  require(lora.r > 0 && lora.r <= 4096, "lora_r is {}, expected 1..4096", lora.r);
  require(std::isfinite(lora.lora_alpha) && lora.lora_alpha > 0,
          "lora_alpha is {}, expected a positive number", lora.lora_alpha);
  Ranks ranks(static_cast<std::size_t>(config.num_layers),
              std::array<std::int64_t, kProjections>{});
  for (auto& layer : ranks) {
    for (const auto p : lora.target_modules) layer[static_cast<std::size_t>(p)] = lora.r;
  }
  LoraAdapter adapter = allocate(backend, config, lora, ranks);
  std::vector<float> host;
  for (std::size_t l = 0; l < adapter.factors_.size(); ++l) {
    for (std::size_t p = 0; p < kProjections; ++p) {
      const Factors& f = adapter.factors_[l][p];
      if (!f.a) continue;
      Rng rng(seed, RngStream::lora_init, static_cast<std::uint32_t>(l),
              static_cast<std::uint32_t>(p));
      const float bound = 1.0f / std::sqrt(static_cast<float>(f.a.shape[1]));
      host.resize(static_cast<std::size_t>(f.a.elements()));
      for (float& x : host) x = (2.0f * rng.uniform() - 1.0f) * bound;
      backend.upload(f.a, host.data());
      backend.synchronize();
    }
  }
  adapter.refresh_shadows(backend);
  return adapter;
}

void LoraAdapter::refresh_shadows(Backend& backend) {
  for (const Layer& layer : factors_) {
    for (const Factors& f : layer) {
      if (!f.a_shadow) continue;
      backend.convert(f.a_shadow, f.a);
      backend.convert(f.b_shadow, f.b);
    }
  }
}

LoraAdapter LoraAdapter::load(Backend& backend, const Config& config, const std::string& folder) {
  require(std::filesystem::is_directory(folder),
          "{}: is not a folder; expected an adapter folder as peft saves it", folder);
  const LoraConfig lora = read_adapter_config(folder + "/adapter_config.json");
  const std::string path = folder + "/adapter_model.safetensors";
  const io::SafetensorsFile file(path);

  // The modules are those that the file has factors for; every tensor must be one of this model's
  // factors.
  std::set<std::string> unused;
  for (const auto& name : file.names()) unused.insert(name);
  Ranks ranks(static_cast<std::size_t>(config.num_layers),
              std::array<std::int64_t, kProjections>{});
  LoraConfig with_targets = lora;
  std::set<int> targets;
  for (std::int64_t l = 0; l < config.num_layers; ++l) {
    for (int i = 0; i < kProjections; ++i) {
      const auto p = static_cast<Projection>(i);
      const std::string name_a = tensor_name(l, p, 'A');
      const std::string name_b = tensor_name(l, p, 'B');
      if (!file.contains(name_a) && !file.contains(name_b)) continue;
      const auto a = file.tensor(name_a);
      const auto b = file.tensor(name_b);
      const Shape expected_a{lora.r, projection_inputs(config, p)};
      const Shape expected_b{projection_outputs(config, p), lora.r};
      require(a.shape == expected_a,
              "{}: tensor \"{}\" is {}, expected {}; is this the adapter of another model?", path,
              name_a, a.shape.str(), expected_a.str());
      require(b.shape == expected_b,
              "{}: tensor \"{}\" is {}, expected {}; is this the adapter of another model?", path,
              name_b, b.shape.str(), expected_b.str());
      ranks[static_cast<std::size_t>(l)][static_cast<std::size_t>(i)] = lora.r;
      targets.insert(i);
      unused.erase(name_a);
      unused.erase(name_b);
    }
  }
  require(
      unused.empty(),
      "{}: tensor \"{}\" belongs to no linear of this model ({} layers); is this the adapter of "
      "another model?",
      path, unused.empty() ? "" : *unused.begin(), config.num_layers);
  require(!targets.empty(), "{}: no LoRA factors in it", path);
  for (const int p : targets) {
    for (std::int64_t l = 0; l < config.num_layers; ++l) {
      require(ranks[static_cast<std::size_t>(l)][static_cast<std::size_t>(p)] != 0,
              "{}: tensor \"{}\" is missing, though other layers have it; is this the adapter of "
              "another model?",
              path, tensor_name(l, static_cast<Projection>(p), 'A'));
    }
  }
  for (const auto p : lora.target_modules) {
    require(targets.count(static_cast<int>(p)) != 0,
            "{}: holds no factors of {}, which target_modules in adapter_config.json names", path,
            projection_name(p));
  }
  require(lora.target_modules.empty() || lora.target_modules.size() == targets.size(),
          "{}: holds factors of {} modules, but target_modules in adapter_config.json names {}",
          path, targets.size(), lora.target_modules.size());
  with_targets.target_modules.clear();
  for (const int p : targets) with_targets.target_modules.push_back(static_cast<Projection>(p));

  LoraAdapter adapter = allocate(backend, config, with_targets, ranks);
  for (std::size_t l = 0; l < adapter.factors_.size(); ++l) {
    for (std::size_t p = 0; p < kProjections; ++p) {
      const Factors& f = adapter.factors_[l][p];
      if (!f.a) continue;
      for (const char factor : {'A', 'B'}) {
        const std::string name =
            tensor_name(static_cast<std::int64_t>(l), static_cast<Projection>(p), factor);
        const auto values = io::to_float(file.tensor(name));
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
    for (std::size_t p = 0; p < kProjections; ++p) {
      const Factors& f = factors_[l][p];
      if (!f.a) continue;
      for (const char factor : {'A', 'B'}) {
        const TensorView view = factor == 'A' ? f.a : f.b;
        host.emplace_back(static_cast<std::size_t>(view.elements()));
        backend.download(host.back().data(), view);
        backend.synchronize();
        tensors.emplace_back(
            tensor_name(static_cast<std::int64_t>(l), static_cast<Projection>(p), factor),
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
  for (const auto p : config_.target_modules) targets.emplace_back(projection_name(p));
  w.member("target_modules", targets);
  w.end_object();
  io::write_file_atomically(folder + "/adapter_config.json", w.str() + "\n");
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
  for (const auto p : lora.target_modules) {
    n += lora.r * (projection_inputs(config, p) + projection_outputs(config, p));
  }
  return n * config.num_layers;
}

std::uint64_t LoraAdapter::fingerprint(Backend& backend) const {
  Hash64 hash;
  std::vector<float> host;
  for (const auto& layer : factors_) {
    for (const auto& f : layer) {
      for (const TensorView& view : {f.a, f.b}) {
        if (!view) continue;
        host.resize(static_cast<std::size_t>(view.elements()));
        backend.download(host.data(), view);
        backend.synchronize();
        hash.add(host.data(), host.size() * sizeof(float));
      }
    }
  }
  return hash.value();
}

}  // namespace qgrpo::model
