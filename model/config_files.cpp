#include "model/config_files.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "model/gguf_config.h"
#include "model/io/file.h"
#include "model/io/gguf.h"
#include "model/io/json.h"

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
  const auto value = root.find(key);
  if (!value || value->is_null()) return fallback;
  return size_at(root, key);
}

// eos_token_id: a number, a list, or null.
std::vector<std::int32_t> ids_at(const JsonValue& root, const char* key) {
  const auto value = root.find(key);
  if (!value || value->is_null()) return {};
  if (value->is_array()) return value->as_ids();
  const std::int64_t id = value->as_int();
  require(id >= 0 && id < (std::int64_t{1} << 31), "{}: {} is not a token id", value->where(), id);
  return {static_cast<std::int32_t>(id)};
}

std::int32_t id_at(const JsonValue& root, const char* key) {
  const auto ids = ids_at(root, key);
  return ids.empty() ? -1 : ids.front();
}

double rope_theta_of(const JsonValue& root) {
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const auto rope = root.find(key);
    if (!rope || rope->is_null()) continue;
    auto type = rope->find("rope_type");
    if (!type) type = rope->find("type");
    if (type && type->as_string_view() != "default") {
      fail("{}: the rotary embedding type \"{}\" is not supported, expected \"default\"",
           rope->where(), type->as_string_view());
    }
    if (const auto theta = rope->find("rope_theta")) return theta->as_double();
  }
  const auto theta = root.find("rope_theta");
  return theta ? theta->as_double() : 10000.0;
}

// Of the quantized checkpoints, those of bitsandbytes with 4 bits can be read.
void check_quantization(const JsonValue& root, const std::string& path) {
  const auto quantized = root.find("quantization_config");
  if (!quantized || quantized->is_null()) return;
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
  if (io::is_model_file(folder)) return gguf_config(io::GgufFile(folder));
  require(std::filesystem::is_directory(folder),
          "{}: is not a folder; expected a Hugging Face model folder or a .gguf file", folder);
  const std::string path = folder + "/config.json";
  io::JsonDocument document;
  const JsonValue root = document.parse_file(path);
  const std::string type = root.at("model_type").as_string();
  require(type == "qwen2",
          "{}: the model_type is \"{}\"; only the Qwen2 architecture (Qwen2, Qwen2.5) is supported",
          path, type);
  check_quantization(root, path);
  if (const auto act = root.find("hidden_act"); act && act->as_string_view() != "silu") {
    fail("{}: found \"{}\", expected \"silu\"", act->where(), act->as_string_view());
  }
  Config c;
  c.hidden_size = size_at(root, "hidden_size");
  c.num_layers = size_at(root, "num_hidden_layers");
  c.num_heads = size_at(root, "num_attention_heads");
  c.num_kv_heads = size_or(root, "num_key_value_heads", c.num_heads);
  c.intermediate_size = size_at(root, "intermediate_size");
  c.vocab_size = size_at(root, "vocab_size");
  c.max_position_embeddings = size_or(root, "max_position_embeddings", 32768);
  if (const auto head_dim = root.find("head_dim"); head_dim && !head_dim->is_null()) {
    c.head_dim = size_at(root, "head_dim");
  } else {
    require(c.hidden_size % c.num_heads == 0,
            "{}: hidden_size ({}) is not a multiple of num_attention_heads ({})", path,
            c.hidden_size, c.num_heads);
    c.head_dim = c.hidden_size / c.num_heads;
  }
  c.rope_theta = rope_theta_of(root);
  if (const auto eps = root.find("rms_norm_eps"))
    c.rms_norm_eps = static_cast<float>(eps->as_double());
  if (const auto tie = root.find("tie_word_embeddings")) c.tie_word_embeddings = tie->as_bool();
  const auto sliding = root.find("use_sliding_window");
  if (sliding && !sliding->is_null() && sliding->as_bool()) {
    fail(
        "{}: sliding-window attention is not supported; set it to false for contexts up to the "
        "window",
        sliding->where());
  }
  c.eos_token_ids = ids_at(root, "eos_token_id");
  c.bos_token_id = id_at(root, "bos_token_id");
  c.pad_token_id = id_at(root, "pad_token_id");
  const std::string generation = folder + "/generation_config.json";
  if (std::filesystem::exists(generation)) {
    io::JsonDocument second;
    const JsonValue g = second.parse_file(generation);
    const auto eos = ids_at(g, "eos_token_id");
    // Theirs go first; those of config.json alone end a completion too.
    const auto others = std::exchange(c.eos_token_ids, eos);
    for (const std::int32_t id : others) {
      if (std::find(eos.begin(), eos.end(), id) == eos.end()) c.eos_token_ids.push_back(id);
    }
  }
  check_config(c, path);
  return c;
}

GenerationDefaults load_generation_defaults(const std::string& folder) {
  GenerationDefaults out;
  const std::string path = folder + "/generation_config.json";
  if (!std::filesystem::exists(path)) return out;
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
  if (const auto k = root.find("top_k"); k && !k->is_null()) {
    out.sampling.top_k = static_cast<std::int32_t>(k->as_int());
  }
  if (const auto sample = root.find("do_sample");
      sample && !sample->is_null() && !sample->as_bool()) {
    out.sampling.temperature = 0.0f;
  }
  return out;
}

void save_config(const std::string& folder, const Config& c) {
  io::JsonWriter w;
  w.begin_object();
  w.key("architectures");
  w.value(std::vector<std::string>{"Qwen2ForCausalLM"});
  w.member("model_type", "qwen2");
  w.member("hidden_act", "silu");
  w.member("hidden_size", c.hidden_size);
  w.member("intermediate_size", c.intermediate_size);
  w.member("num_hidden_layers", c.num_layers);
  w.member("num_attention_heads", c.num_heads);
  w.member("num_key_value_heads", c.num_kv_heads);
  w.member("head_dim", c.head_dim);
  w.member("vocab_size", c.vocab_size);
  w.member("max_position_embeddings", c.max_position_embeddings);
  w.member("rope_theta", c.rope_theta);
  w.member("rms_norm_eps", c.rms_norm_eps);
  w.member("tie_word_embeddings", c.tie_word_embeddings);
  w.member("use_sliding_window", false);
  w.member("attention_dropout", 0.0);
  w.member("initializer_range", 0.02);
  w.member("torch_dtype", "float32");
  if (c.bos_token_id >= 0) w.member("bos_token_id", static_cast<std::int64_t>(c.bos_token_id));
  if (!c.eos_token_ids.empty()) {
    w.member("eos_token_id", static_cast<std::int64_t>(c.eos_token_ids.front()));
  }
  w.end_object();
  io::write_file_atomically(folder + "/config.json", w.str() + "\n");
  io::JsonWriter g;
  g.begin_object();
  g.member("do_sample", true);
  if (c.pad_token_id >= 0) g.member("pad_token_id", static_cast<std::int64_t>(c.pad_token_id));
  if (!c.eos_token_ids.empty()) g.member("eos_token_id", c.eos_token_ids);
  g.end_object();
  io::write_file_atomically(folder + "/generation_config.json", g.str() + "\n");
}

}  // namespace qgrpo::model
