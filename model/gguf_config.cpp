#include "model/gguf_config.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "model/io/foreign_keys.h"
#include "model/io/gguf_quants.h"

namespace qgrpo::model {
namespace {

// Keys of ARCHITECTURE.* that llama.cpp computes with, here or in another architecture, and this program
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
    {"rope.scaling.alpha", Neutral::one, "a scaled rotary embedding"},
    {"rope.dimension_sections", Neutral::unset, "a rotary embedding of several positions"},
    {"rope.scaling.yarn_log_multiplier", Neutral::zero, "YaRN with DeepSeek's factors"},
    {"tensor_data_layout", Neutral::unset, "another order of the weights"},
});

// The metadata under the architecture's prefix.
class Keys {
 public:
  Keys(const io::GgufFile& file, std::string_view architecture)
      : file_(file), prefix_(fmt::format("{}.", architecture)) {}

  std::string name(const char* key) const { return prefix_ + key; }
  const std::string& prefix() const { return prefix_; }
  const io::GgufFile& file() const { return file_; }
  const io::GgufValue* find(const char* key) const { return file_.find(name(key)); }
  const io::GgufValue& at(const char* key) const { return file_.at(name(key)); }
  double number_or(const char* key, double otherwise) const {
    const io::GgufValue* value = find(key);
    return value != nullptr ? value->as_double() : otherwise;
  }
  std::int64_t size(const char* key) const { return at(key).as_int(); }
  std::int64_t size_or(const char* key, std::int64_t otherwise) const {
    const io::GgufValue* value = find(key);
    return value != nullptr ? value->as_int() : otherwise;
  }

 private:
  const io::GgufFile& file_;
  std::string prefix_;
};

// Llama 3's scaling stands in GGUF as the tensor rope_freqs.weight, by which llama.cpp divides the
// frequencies. Its parameters are Llama's own but for factor and original length; those are found.
RopeScaling read_divisors(const Keys& keys, const Config& c) {
  const io::GgufFile& file = keys.file();
  const io::GgufTensor& tensor = file.tensor(kRopeDivisors);
  const Shape expected{c.head_dim / 2};
  require(tensor.shape == expected && static_cast<io::GgmlType>(tensor.type) == io::GgmlType::f32,
          "{}: tensor \"{}\" is {}, expected {} in F32", file.path(), kRopeDivisors,
          tensor.shape.str(), expected.str());
  std::vector<float> divisors(static_cast<std::size_t>(c.head_dim / 2));
  io::ggml_dequantize(divisors, io::GgmlType::f32, file.data(tensor).data());
  RopeScaling s;
  s.factor = *std::max_element(divisors.begin(), divisors.end());
  if (s.factor == 1.0) return s;
  s.type = RopeScaling::Type::llama3;
  for (std::int64_t original = 1; original <= c.max_position_embeddings; original *= 2) {
    s.original_max_position_embeddings = original;
    const std::vector<float> own = rope_divisors(c.head_dim, c.rope_theta, s);
    if (std::equal(own.begin(), own.end(), divisors.begin(),
                   [](float a, float b) { return std::abs(a - b) <= 1e-5f * std::abs(a); })) {
      return s;
    }
  }
  fail(
      "{}: tensor \"{}\" stretches the rotary embedding otherwise than Llama 3 does, which is not "
      "supported",
      file.path(), kRopeDivisors);
}

// As llama.cpp: without a type a factor scales linearly; with the type "none" it does nothing.
RopeScaling read_rope(const Keys& keys, const Config& c) {
  if (keys.file().tensors().count(kRopeDivisors) != 0) return read_divisors(keys, c);
  RopeScaling s;
  const io::GgufValue* type = keys.find("rope.scaling.type");
  const std::string name(type != nullptr ? type->as_string() : "linear");
  s.factor = keys.number_or("rope.scaling.factor", 1.0);
  const double attention = keys.number_or("rope.scaling.attn_factor", 1.0);
  require(name == "yarn" || attention == 1.0 || attention == 0.0,
          "{}: {} is {}: scaling the attention with a rotary embedding other than \"yarn\" is not "
          "supported; expected 1, or a file without it",
          keys.file().path(), keys.name("rope.scaling.attn_factor"), attention);
  if (name == "none" || (name == "linear" && (s.factor == 1.0 || s.factor == 0.0))) return {};
  require(std::isfinite(s.factor) && s.factor > 0, "{}: {} is {}, expected a positive number",
          keys.file().path(), keys.name("rope.scaling.factor"), s.factor);
  if (name == "linear") {
    s.type = RopeScaling::Type::linear;
    return s;
  }
  require(name == "yarn",
          "{}: {} is \"{}\", which is not supported; expected \"none\", \"linear\" or \"yarn\"",
          keys.file().path(), keys.name("rope.scaling.type"), name);
  s.type = RopeScaling::Type::yarn;
  s.original_max_position_embeddings =
      keys.size_or("rope.scaling.original_context_length", c.max_position_embeddings);
  s.beta_fast = keys.number_or("rope.scaling.yarn_beta_fast", s.beta_fast);
  s.beta_slow = keys.number_or("rope.scaling.yarn_beta_slow", s.beta_slow);
  s.attention_factor = attention * yarn_attention_factor(s.factor);
  return s;
}

void check_attention(const Keys& keys, const Config& c) {
  const std::string& path = keys.file().path();
  const double window = keys.number_or("attention.sliding_window", 0.0);
  require(window == 0.0 || window >= static_cast<double>(c.max_position_embeddings),
          "{}: {} is {}, below the {} positions of {}; sliding-window attention is not supported",
          path, keys.name("attention.sliding_window"), window, c.max_position_embeddings,
          keys.name("context_length"));
  const double own = 1.0 / std::sqrt(static_cast<double>(c.head_dim));
  const double scale = keys.number_or("attention.scale", own);
  require(scale == 0.0 || std::abs(scale - own) < 1e-5 * own,
          "{}: {} is {}, expected {} (1 / sqrt({}))", path, keys.name("attention.scale"), scale,
          own, c.head_dim);
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

const Family& gguf_family(const io::GgufFile& file) {
  const std::string_view architecture = file.at("general.architecture").as_string();
  const Family* family = family_of_gguf(architecture);
  require(family != nullptr,
          "{}: the architecture is \"{}\", which is not supported; expected one of {}", file.path(),
          architecture, known_gguf_architectures());
  return *family;
}

std::vector<float> rope_divisors(std::int64_t head_dim, double theta, const RopeScaling& scaling) {
  const RopeFrequencies plain = rope_frequencies(head_dim, theta, {});
  const RopeFrequencies scaled = rope_frequencies(head_dim, theta, scaling);
  std::vector<float> out;
  for (std::size_t i = 0; i < plain.per_pair.size(); ++i) {
    out.push_back(static_cast<float>(plain.per_pair[i] / scaled.per_pair[i]));
  }
  return out;
}

Config gguf_config(const io::GgufFile& file) {
  check_kind(file);
  Config c;
  c.family = &gguf_family(file);
  const Keys keys(file, c.family->gguf);
  if (const io::GgufValue* parts = file.find("split.count"); parts && parts->as_int() > 1) {
    fail("{}: is one of {} parts; join them with llama-gguf-split --merge", file.path(),
         parts->as_int());
  }
  io::refuse_keys(file, keys.prefix(), kForeignGgufKeys);
  c.num_layers = keys.size("block_count");
  c.hidden_size = keys.size("embedding_length");
  c.intermediate_size = keys.size("feed_forward_length");
  c.num_heads = keys.size("attention.head_count");
  c.num_kv_heads = keys.size_or("attention.head_count_kv", c.num_heads);
  c.max_position_embeddings = keys.size_or("context_length", c.family->max_position_embeddings);
  require(c.num_heads > 0, "{}: {} is {}, expected a positive number", file.path(),
          keys.name("attention.head_count"), c.num_heads);
  c.head_dim = keys.size_or("attention.key_length", c.hidden_size / c.num_heads);
  require(keys.size_or("attention.value_length", c.head_dim) == c.head_dim &&
              keys.size_or("rope.dimension_count", c.head_dim) == c.head_dim,
          "{}: heads whose keys, values and rotated parts differ in size are not supported",
          file.path());
  c.rope_theta = keys.number_or("rope.freq_base", c.rope_theta);
  c.rms_norm_eps = static_cast<float>(keys.at("attention.layer_norm_rms_epsilon").as_double());
  const io::GgufTensor& embedding = file.tensor("token_embd.weight");
  require(embedding.shape.rank() == 2, "{}: tensor \"token_embd.weight\" is {}, expected a matrix",
          file.path(), embedding.shape.str());
  c.vocab_size = embedding.shape[0];
  c.tie_word_embeddings = file.tensors().count("output.weight") == 0;
  c.eos_token_ids = end_tokens(file);
  c.bos_token_id = token_at(file, "tokenizer.ggml.bos_token_id");
  c.pad_token_id = token_at(file, "tokenizer.ggml.padding_token_id");
  check_config(c, file.path());
  c.rope_scaling = read_rope(keys, c);
  check_attention(keys, c);
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
