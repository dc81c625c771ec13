#include "model/gguf_config.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "model/io/foreign_keys.h"

namespace qgrpo::model {
namespace {

// Keys of qwen2.* that llama.cpp computes with, here or in another architecture, and this program
// does not. (attention.sliding_window, attention.scale and rope.scaling.type and .factor have
// functions of their own.)
using Neutral = io::ForeignKey::Neutral;
constexpr auto kForeignGgufKeys = std::to_array<io::ForeignKey>({
    {"attention.causal", Neutral::yes, "attention to what comes later"},
    {"attention.clamp_kqv", Neutral::zero, "clamping queries, keys and values"},
    {"attention.max_alibi_bias", Neutral::zero, "ALiBi"},
    {"attn_logit_softcapping", Neutral::zero, "capping the attention's scores"},
    {"final_logit_softcapping", Neutral::zero, "capping the logits"},
    {"logit_scale", Neutral::one, "scaling the logits"},
    {"residual_scale", Neutral::one, "scaling the residuals"},
    {"embedding_scale", Neutral::one, "scaling the embeddings"},
    {"expert_count", Neutral::zero, "a mixture of experts"},
    {"rope.scale_linear", Neutral::one, "a scaled rotary embedding"},
    {"rope.scaling.attn_factor", Neutral::one, "scaling the attention with the rotary embedding"},
    {"rope.scaling.alpha", Neutral::one, "a scaled rotary embedding"},
    {"rope.dimension_sections", Neutral::unset, "a rotary embedding of several positions"},
    {"tensor_data_layout", Neutral::unset, "another order of the weights"},
});

double number_or(const io::GgufFile& file, const std::string& key, double otherwise) {
  const io::GgufValue* value = file.find(key);
  return value != nullptr ? value->as_double() : otherwise;
}

// As llama.cpp: without a type a factor scales linearly; with the type "none" it does nothing.
void check_rope(const io::GgufFile& file) {
  const io::GgufValue* type = file.find("qwen2.rope.scaling.type");
  const double factor = number_or(file, "qwen2.rope.scaling.factor", 1.0);
  const std::string name(type != nullptr ? type->as_string() : "linear");
  if (name == "none" || (name == "linear" && (factor == 1.0 || factor == 0.0))) return;
  fail(
      "{}: qwen2.rope.scaling.factor is {}{}, a scaled rotary embedding, which is not supported; "
      "expected 1, or a file without it",
      file.path(), factor,
      type != nullptr ? fmt::format(" and .type is \"{}\"", name)
                      : " without a .type, which means \"linear\"");
}

void check_attention(const io::GgufFile& file, const Config& c) {
  const double window = number_or(file, "qwen2.attention.sliding_window", 0.0);
  require(window == 0.0 || window >= static_cast<double>(c.max_position_embeddings),
          "{}: qwen2.attention.sliding_window is {}, below the {} positions of "
          "qwen2.context_length; sliding-window attention is not supported",
          file.path(), window, c.max_position_embeddings);
  const double own = 1.0 / std::sqrt(static_cast<double>(c.head_dim));
  const double scale = number_or(file, "qwen2.attention.scale", own);
  require(scale == 0.0 || std::abs(scale - own) < 1e-5 * own,
          "{}: qwen2.attention.scale is {}, expected {} (1 / sqrt({}))", file.path(), scale, own,
          c.head_dim);
}

// Other kinds of files have the same container.
void check_kind(const io::GgufFile& file) {
  if (const io::GgufValue* type = file.find("general.type"); type && type->as_string() != "model") {
    fail("{}: general.type is \"{}\", expected \"model\"{}", file.path(), type->as_string(),
         type->as_string() == "adapter"
             ? ": LoRA adapters are read as peft folders (--adapter DIR), not as GGUF"
             : "");
  }
}

std::int32_t token_at(const io::GgufFile& file, const char* key) {
  const io::GgufValue* value = file.find(key);
  if (value == nullptr) return -1;
  const std::int64_t id = value->as_int();
  require(id >= 0 && id < (std::int64_t{1} << 31), "{}: {} is {}, which is not a token id",
          file.path(), key, id);
  return static_cast<std::int32_t>(id);
}

std::vector<std::int32_t> end_tokens(const io::GgufFile& file) {
  std::vector<std::int32_t> ids;
  const auto add = [&](std::int32_t id) {
    if (id >= 0 && std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  };
  add(token_at(file, "tokenizer.ggml.eos_token_id"));
  add(token_at(file, "tokenizer.ggml.eot_token_id"));
  add(token_at(file, "tokenizer.ggml.eom_token_id"));
  if (const io::GgufValue* value = file.find("tokenizer.ggml.tokens")) {
    const auto tokens = value->as_strings();
    for (const char* name : {"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end|>",
                             "<end_of_turn>", "<EOT>", "<\uff5cend\u2581of\u2581sentence\uff5c>"}) {
      const auto found = std::find(tokens.begin(), tokens.end(), name);
      if (found != tokens.end()) add(static_cast<std::int32_t>(found - tokens.begin()));
    }
  }
  return ids;
}

}  // namespace

Config gguf_config(const io::GgufFile& file) {
  check_kind(file);
  const std::string_view architecture = file.at("general.architecture").as_string();
  require(architecture == "qwen2",
          "{}: the architecture is \"{}\"; only qwen2 (Qwen2, Qwen2.5) is supported", file.path(),
          architecture);
  if (const io::GgufValue* parts = file.find("split.count"); parts && parts->as_int() > 1) {
    fail("{}: is one of {} parts; join them with llama-gguf-split --merge", file.path(),
         parts->as_int());
  }
  check_rope(file);
  io::refuse_keys(file, "qwen2.", kForeignGgufKeys);
  const auto size = [&](const char* key) { return file.at(key).as_int(); };
  const auto size_or = [&](const char* key, std::int64_t otherwise) {
    const io::GgufValue* value = file.find(key);
    return value != nullptr ? value->as_int() : otherwise;
  };
  Config c;
  c.num_layers = size("qwen2.block_count");
  c.hidden_size = size("qwen2.embedding_length");
  c.intermediate_size = size("qwen2.feed_forward_length");
  c.num_heads = size("qwen2.attention.head_count");
  c.num_kv_heads = size_or("qwen2.attention.head_count_kv", c.num_heads);
  c.max_position_embeddings = size_or("qwen2.context_length", c.max_position_embeddings);
  require(c.num_heads > 0, "{}: qwen2.attention.head_count is {}, expected a positive number",
          file.path(), c.num_heads);
  c.head_dim = size_or("qwen2.attention.key_length", c.hidden_size / c.num_heads);
  require(size_or("qwen2.attention.value_length", c.head_dim) == c.head_dim &&
              size_or("qwen2.rope.dimension_count", c.head_dim) == c.head_dim,
          "{}: heads whose keys, values and rotated parts differ in size are not supported",
          file.path());
  if (const io::GgufValue* theta = file.find("qwen2.rope.freq_base")) {
    c.rope_theta = theta->as_double();
  }
  c.rms_norm_eps =
      static_cast<float>(file.at("qwen2.attention.layer_norm_rms_epsilon").as_double());
  const io::GgufTensor& embedding = file.tensor("token_embd.weight");
  require(embedding.shape.rank() == 2, "{}: tensor \"token_embd.weight\" is {}, expected a matrix",
          file.path(), embedding.shape.str());
  c.vocab_size = embedding.shape[0];
  c.tie_word_embeddings = file.tensors().count("output.weight") == 0;
  c.eos_token_ids = end_tokens(file);
  c.bos_token_id = token_at(file, "tokenizer.ggml.bos_token_id");
  c.pad_token_id = token_at(file, "tokenizer.ggml.padding_token_id");
  check_config(c, file.path());
  check_attention(file, c);
  return c;
}

std::optional<SamplingParams> gguf_sampling(const io::GgufFile& file) {
  SamplingParams out;
  bool found = false;
  const auto number = [&](const char* key, float& to) {
    const io::GgufValue* value = file.find(fmt::format("general.sampling.{}", key));
    if (value == nullptr) return;
    found = true;
    to = static_cast<float>(value->as_double());
  };
  number("temp", out.temperature);
  if (const io::GgufValue* k = file.find("general.sampling.top_k")) {
    found = true;
    out.top_k = top_k(std::max<std::int64_t>(0, k->as_int()));  // to llama.cpp -1 is off, too
  }
  number("top_p", out.top_p);
  number("min_p", out.min_p);
  number("penalty_repeat", out.repetition_penalty);
  if (!found) return std::nullopt;
  return out;
}

}  // namespace qgrpo::model
