#include "model/config_files.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "model/formats/checkpoint.h"
#include "model/formats/path_kind.h"
#include "model/gguf_config.h"
#include "model/io/file.h"
#include "model/io/foreign_keys.h"
#include "model/io/gguf.h"
#include "model/io/json.h"
#include "model/io/notes.h"
#include "model/io/paths.h"
#include "model/rope_config.h"

namespace qgrpo::model {
namespace {

using io::JsonValue;

std::int64_t size_at(const JsonValue& root, const char* key) {
  const JsonValue value = root.at(key);
  const std::int64_t size = value.as_int();
  require(size > 0, "{}: found {}, expected a positive size", value.where(), size);
  return size;
}

std::int64_t size_or(const JsonValue& root, const char* key, std::int64_t fallback) {
  const auto value = root.find_value(key);
  if (!value) return fallback;
  return size_at(root, key);
}

// eos_token_id: a number, a list, or null.
std::vector<std::int32_t> ids_at(const JsonValue& root, const char* key) {
  const auto value = root.find_value(key);
  if (!value) return {};
  if (value->is_array()) return value->as_ids();
  const std::int64_t id = value->as_int();
  require(id >= 0 && id < (std::int64_t{1} << 31), "{}: {} is not a token id", value->where(), id);
  return {static_cast<std::int32_t>(id)};
}

std::int32_t id_at(const JsonValue& root, const char* key) {
  const auto ids = ids_at(root, key);
  return ids.empty() ? -1 : ids.front();
}

// Keys that transformers, or a family near these, computes with and this program does not. (The
// rotary embedding, the sliding window and quantization_config have functions of their own.)
using Neutral = io::ForeignKey::Neutral;
constexpr auto kForeignConfigKeys = std::to_array<io::ForeignKey>({
    {"is_causal", Neutral::yes, "attention to what comes later"},
    {"use_bidirectional_attention", Neutral::unset, "attention to what comes later"},
    {"use_mrope", Neutral::unset, "a rotary embedding of several positions"},
    {"partial_rotary_factor", Neutral::one, "rotating a part of each head"},
    {"qk_norm", Neutral::unset, "normalized queries and keys"},
    {"use_qk_norm", Neutral::unset, "normalized queries and keys"},
    {"attn_logit_softcapping", Neutral::zero, "capping the attention's scores"},
    {"final_logit_softcapping", Neutral::zero, "capping the logits"},
    {"logit_scale", Neutral::one, "scaling the logits"},
    {"logits_scaling", Neutral::one, "scaling the logits"},
    {"embedding_multiplier", Neutral::one, "scaling the embeddings"},
    {"residual_multiplier", Neutral::one, "scaling the residuals"},
    {"num_experts", Neutral::zero, "a mixture of experts"},
    {"num_local_experts", Neutral::zero, "a mixture of experts"},
    {"n_routed_experts", Neutral::zero, "a mixture of experts"},
    {"quantization", Neutral::unset, "MLX's quantization"},
    {"compression_config", Neutral::unset, "a compressed checkpoint"},
});
// Of families whose linears have no biases.
constexpr auto kBiasKeys = std::to_array<io::ForeignKey>({
    {"attention_bias", Neutral::unset, "attention with biases"},
    {"mlp_bias", Neutral::unset, "a feed-forward network with biases"},
});

// What SlidingWindow says; none slide where the window is as long as the context.
void check_sliding_window(const JsonValue& root, const Config& c) {
  constexpr std::int64_t kWindow = 4096;  // Qwen2Config's defaults, and Qwen3Config's
  constexpr std::int64_t kFullLayers = 28;
  if (c.family->sliding_window == SlidingWindow::none) return;
  if (c.family->sliding_window == SlidingWindow::all) {
    const auto window = root.find_value("sliding_window");
    if (!window || window->as_int() >= c.max_position_embeddings) return;
    fail(
        "{}: sliding-window attention is not supported; set it to null for contexts up to the "
        "window of {}",
        window->where(), window->as_int());
  }
  const auto use = root.find("use_sliding_window");
  const bool used = use && !use->is_null() && use->as_bool();
  if (const auto types = root.find_value("layer_types")) {
    for (const auto& type : types->as_array()) {
      require(
          type.as_string_view() == "full_attention",
          "{}: found \"{}\", which is not supported; expected \"full_attention\" for all layers",
          types->where(), type.as_string_view());
    }
    return;
  }
  if (!used) return;
  const auto whole = [&](const char* key, std::int64_t otherwise) {
    const auto value = root.find(key);
    return value && !value->is_null() ? value->as_int() : otherwise;
  };
  const auto window = root.find("sliding_window");
  if (window && window->is_null()) return;
  if (whole("max_window_layers", kFullLayers) >= c.num_layers) return;
  if (whole("sliding_window", kWindow) >= c.max_position_embeddings) return;
  fail(
      "{}: sliding-window attention is not supported; set it to false for contexts up to the "
      "window of {}",
      use->where(), whole("sliding_window", kWindow));
}

// The two of a tied model must be one matrix. Where both are stored with different values the
// weights count, as in transformers: what was trained had two.
bool head_differs(const std::string& folder, const Config& c) {
  constexpr const char* kHead = "lm_head.weight";
  if (!has_safetensors(folder)) return false;
  Checkpoint checkpoint(folder);
  if (!checkpoint.contains(kHead)) return false;
  return !checkpoint.equal(kHead, "model.embed_tokens.weight", {c.vocab_size, c.hidden_size});
}

// Of the quantized checkpoints, those of bitsandbytes with 4 bits can be read.
void check_quantization(const JsonValue& root, const std::string& path) {
  const auto quantized = root.find_value("quantization_config");
  if (!quantized) return;
  const auto method = quantized->find("quant_method");
  const std::string name = method && method->is_string() ? method->as_string() : "bitsandbytes";
  const auto four = quantized->find("load_in_4bit");
  require(name == "bitsandbytes" && four && !four->is_null() && four->as_bool(),
          "{}: the checkpoint is quantized by \"{}\"{}; expected an unquantized one, or one with "
          "bitsandbytes' 4-bit weights",
          path, name, name == "bitsandbytes" ? " with 8 bits" : "");
}

}  // namespace

Config load_config(const std::string& folder) {
  require_model(folder);
  if (io::is_model_file(folder)) return gguf_config(io::GgufFile(folder));
  const std::string path = folder + "/config.json";
  io::JsonDocument document;
  const JsonValue root = document.parse_file(path);
  const std::string type = root.at("model_type").as_string();
  const Family* family = family_of(type);
  require(family != nullptr,
          "{}: the model_type is \"{}\", which is not supported; expected one of {}", path, type,
          known_model_types());
  check_quantization(root, path);
  if (const auto act = root.find_value("hidden_act")) {
    const auto name = act->as_string_view();  // the two are one function
    require(name == "silu" || name == "swish", "{}: found \"{}\", expected \"silu\"", act->where(),
            name);
  }
  Config c;
  c.family = family;
  c.hidden_size = size_at(root, "hidden_size");
  c.num_layers = size_at(root, "num_hidden_layers");
  c.num_heads = size_at(root, "num_attention_heads");
  c.num_kv_heads = size_or(root, "num_key_value_heads", c.num_heads);
  c.intermediate_size = size_at(root, "intermediate_size");
  c.vocab_size = size_at(root, "vocab_size");
  c.max_position_embeddings =
      size_or(root, "max_position_embeddings", family->max_position_embeddings);
  if (const auto head_dim = root.find_value("head_dim")) {
    c.head_dim = size_at(root, "head_dim");
  } else if (family->head_dim > 0) {
    c.head_dim = family->head_dim;
  } else {
    require(c.hidden_size % c.num_heads == 0,
            "{}: hidden_size ({}) is not a multiple of num_attention_heads ({})", path,
            c.hidden_size, c.num_heads);
    c.head_dim = c.hidden_size / c.num_heads;
  }
  read_rope(c, root);
  if (const auto eps = root.find("rms_norm_eps"))
    c.rms_norm_eps = static_cast<float>(eps->as_double());
  if (const auto tie = root.find_value("tie_word_embeddings")) {
    c.tie_word_embeddings = tie->as_bool();
  }
  io::refuse_keys(root, kForeignConfigKeys);
  if (!family->qkv_bias) io::refuse_keys(root, kBiasKeys);
  check_sliding_window(root, c);
  c.eos_token_ids = ids_at(root, "eos_token_id");
  c.bos_token_id = id_at(root, "bos_token_id");
  c.pad_token_id = id_at(root, "pad_token_id");
  const std::string generation = folder + "/generation_config.json";
  if (io::exists(generation)) {
    io::JsonDocument second;
    const JsonValue g = second.parse_file(generation);
    const auto eos = ids_at(g, "eos_token_id");
    // Theirs go first; those of config.json alone end a completion too.
    const auto others = std::exchange(c.eos_token_ids, eos);
    for (const std::int32_t id : others) {
      if (std::find(eos.begin(), eos.end(), id) == eos.end()) c.eos_token_ids.push_back(id);
    }
    if (c.bos_token_id < 0) c.bos_token_id = id_at(g, "bos_token_id");
    if (c.pad_token_id < 0) c.pad_token_id = id_at(g, "pad_token_id");
  }
  check_config(c, path);
  if (c.tie_word_embeddings && head_differs(folder, c)) {
    io::note(fmt::format(
        "{}: says tie_word_embeddings is true, but lm_head.weight is stored and differs from "
        "model.embed_tokens.weight; both are used, as in transformers",
        path));
    c.tie_word_embeddings = false;
  }
  return c;
}

GenerationDefaults load_generation_defaults(const std::string& folder) {
  GenerationDefaults out;
  if (io::is_model_file(folder)) {
    const auto sampling = gguf_sampling(io::GgufFile(folder));
    return {sampling.value_or(SamplingParams()), sampling.has_value()};
  }
  const std::string path = folder + "/generation_config.json";
  if (!io::exists(path)) return out;
  out.found = true;
  io::JsonDocument document;
  const JsonValue root = document.parse_file(path);
  const auto number = [&](const char* key, float& value) {
    const auto found = root.find(key);
    if (found && !found->is_null()) value = static_cast<float>(found->as_double());
  };
  number("temperature", out.sampling.temperature);
  number("top_p", out.sampling.top_p);
  number("min_p", out.sampling.min_p);
  number("repetition_penalty", out.sampling.repetition_penalty);
  if (const auto k = root.find_value("top_k")) {
    out.sampling.top_k = top_k(k->as_int());
  }
  if (const auto sample = root.find("do_sample");
      sample && !sample->is_null() && !sample->as_bool()) {
    out.sampling.temperature = 0.0f;
  }
  return out;
}

namespace {

void write_generation_config(const std::string& folder, const Config& c,
                             const GenerationDefaults& defaults) {
  const SamplingParams& sampling = defaults.sampling;
  io::JsonWriter w;
  w.begin_object();
  w.member("do_sample", sampling.temperature > 0.0f);
  if (c.bos_token_id >= 0) w.member("bos_token_id", static_cast<std::int64_t>(c.bos_token_id));
  if (c.pad_token_id >= 0) w.member("pad_token_id", static_cast<std::int64_t>(c.pad_token_id));
  if (!c.eos_token_ids.empty()) w.member("eos_token_id", c.eos_token_ids);
  if (defaults.found) {
    if (sampling.temperature > 0.0f) w.member("temperature", sampling.temperature);
    w.member("top_k", static_cast<std::int64_t>(sampling.top_k));
    w.member("top_p", sampling.top_p);
    if (sampling.min_p > 0.0f) w.member("min_p", sampling.min_p);
    w.member("repetition_penalty", sampling.repetition_penalty);
  }
  w.end_object();
  io::write_file_atomically(folder + "/generation_config.json", w.str() + "\n");
}

}  // namespace

void save_config(const std::string& folder, const Config& c) {
  io::JsonWriter w;
  w.begin_object();
  w.key("architectures");
  w.value(std::vector<std::string>{std::string(c.family->architecture)});
  w.member("model_type", c.family->model_type);
  w.member("hidden_act", "silu");
  w.member("hidden_size", c.hidden_size);
  w.member("intermediate_size", c.intermediate_size);
  w.member("num_hidden_layers", c.num_layers);
  w.member("num_attention_heads", c.num_heads);
  w.member("num_key_value_heads", c.num_kv_heads);
  w.member("head_dim", c.head_dim);
  w.member("vocab_size", c.vocab_size);
  w.member("max_position_embeddings", c.max_position_embeddings);
  write_rope(w, c);
  w.member("rms_norm_eps", c.rms_norm_eps);
  w.member("tie_word_embeddings", c.tie_word_embeddings);
  if (c.family->sliding_window == SlidingWindow::by_layers) w.member("use_sliding_window", false);
  if (c.family->sliding_window == SlidingWindow::all) {
    w.key("sliding_window");
    w.null();
  }
  w.member("attention_dropout", 0.0);
  w.member("initializer_range", 0.02);
  w.member("torch_dtype", "float32");
  if (c.bos_token_id >= 0) w.member("bos_token_id", static_cast<std::int64_t>(c.bos_token_id));
  if (c.pad_token_id >= 0) w.member("pad_token_id", static_cast<std::int64_t>(c.pad_token_id));
  if (!c.eos_token_ids.empty()) {
    w.member("eos_token_id", static_cast<std::int64_t>(c.eos_token_ids.front()));
  }
  w.end_object();
  io::write_file_atomically(folder + "/config.json", w.str() + "\n");
  write_generation_config(folder, c, {});
}

void save_config_like(const std::string& path, const std::string& folder, const Config& config,
                      const std::string& dtype,
                      const std::function<void(io::JsonWriter&)>& extend) {
  const bool gguf = io::is_model_file(path);
  if (gguf) save_config(folder, config);
  const std::string own = (gguf ? folder : path) + "/";
  io::JsonDocument document;
  const JsonValue root = document.parse_file(own + "config.json");
  io::JsonWriter w;
  w.begin_object();
  for (const auto& [key, value] : root.as_object()) {
    if (key == "quantization_config") continue;
    w.key(key);
    if (!dtype.empty() && (key == "torch_dtype" || key == "dtype")) {
      w.value(dtype);
    } else if (key == "tie_word_embeddings") {
      w.value(config.tie_word_embeddings);
    } else {
      w.raw(value.minified());
    }
  }
  if (extend) extend(w);
  w.end_object();
  io::write_file_atomically(folder + "/config.json", w.str() + "\n");
  const std::string generation = own + "generation_config.json";
  if (gguf) {
    write_generation_config(folder, config, load_generation_defaults(path));
  } else if (io::exists(generation)) {
    io::write_file_atomically(folder + "/generation_config.json", io::read_file(generation));
  } else {
    std::filesystem::remove(folder + "/generation_config.json");
  }
}

}  // namespace qgrpo::model
