#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "model/ops/error.h"

namespace qgrpo::model {

std::int32_t top_k(std::int64_t in_file) {
  return static_cast<std::int32_t>(
      std::clamp<std::int64_t>(in_file, -1, std::numeric_limits<std::int32_t>::max()));
}

void check_config(const Config& c, const std::string& where) {
  constexpr std::int64_t kMax = 1 << 24;
  const auto bounded = [&](std::int64_t value, const char* name) {
    require(value > 0 && value <= kMax, "{}: {} is {}, expected 1..{}", where, name, value, kMax);
  };
  bounded(c.hidden_size, "hidden_size");
  bounded(c.num_layers, "num_hidden_layers");
  bounded(c.num_heads, "num_attention_heads");
  bounded(c.num_kv_heads, "num_key_value_heads");
  bounded(c.head_dim, "head_dim");
  bounded(c.intermediate_size, "intermediate_size");
  bounded(c.vocab_size, "vocab_size");
  require(c.num_layers <= 4096, "{}: num_hidden_layers is {}, expected at most 4096", where,
          c.num_layers);
  require(c.num_heads % c.num_kv_heads == 0,
          "{}: num_attention_heads ({}) is not a multiple of num_key_value_heads ({})", where,
          c.num_heads, c.num_kv_heads);
  require(c.head_dim % 2 == 0, "{}: head_dim is {}, expected an even number", where, c.head_dim);
  require(c.head_dim <= 256, "{}: head_dim is {}, expected at most 256", where, c.head_dim);
  require(std::isfinite(c.rope_theta) && c.rope_theta > 0,
          "{}: rope_theta is {}, expected a positive number", where, c.rope_theta);
  require(std::isfinite(c.rms_norm_eps) && c.rms_norm_eps > 0,
          "{}: rms_norm_eps is {}, expected a positive number", where, c.rms_norm_eps);
  for (const auto id : c.eos_token_ids) {
    require(id >= 0 && id < c.vocab_size, "{}: eos_token_id {} is outside the vocabulary of {}",
            where, id, c.vocab_size);
  }
}

Config named_shape(const std::string& name) {
  Config c;
  c.rope_theta = 1e6;
  const auto shape = [&](std::int64_t h, std::int64_t nh, std::int64_t nkv, std::int64_t d,
                         std::int64_t f, std::int64_t v, std::int64_t layers, bool tied) {
    c.hidden_size = h;
    c.num_heads = nh;
    c.num_kv_heads = nkv;
    c.head_dim = d;
    c.intermediate_size = f;
    c.vocab_size = v;
    c.num_layers = layers;
    c.tie_word_embeddings = tied;
    return c;
  };
  if (name == "qwen2.5-0.5b") return shape(896, 14, 2, 64, 4864, 151936, 24, true);
  if (name == "qwen2.5-1.5b") return shape(1536, 12, 2, 128, 8960, 151936, 28, true);
  if (name == "qwen2.5-3b") return shape(2048, 16, 2, 128, 11008, 151936, 36, true);
  if (name == "qwen2.5-7b") return shape(3584, 28, 4, 128, 18944, 152064, 28, false);
  if (name == "demo") {
    shape(128, 4, 2, 32, 256, 512, 2, true);
    c.rope_theta = 1e4;
    c.max_position_embeddings = 512;
    return c;
  }
  fail(
      "\"{}\" is not a known shape; expected qwen2.5-0.5b, qwen2.5-1.5b, qwen2.5-3b, qwen2.5-7b or "
      "demo",
      name);
}

const char* projection_name(Projection p) {
  static constexpr const char* names[] = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                          "gate_proj", "up_proj", "down_proj"};
  return names[static_cast<int>(p)];
}

const char* projection_path(Projection p) {
  static constexpr const char* names[] = {
      "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
      "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
  return names[static_cast<int>(p)];
}

std::int64_t projection_outputs(const Config& c, Projection p) {
  switch (p) {
    case Projection::q:
      return c.q_size();
    case Projection::k:
    case Projection::v:
      return c.kv_size();
    case Projection::gate:
    case Projection::up:
      return c.intermediate_size;
    case Projection::o:
    case Projection::down:
      return c.hidden_size;
  }
  return 0;
}

std::int64_t projection_inputs(const Config& c, Projection p) {
  switch (p) {
    case Projection::o:
      return c.q_size();
    case Projection::down:
      return c.intermediate_size;
    default:
      return c.hidden_size;
  }
}

std::int64_t parameter_count(const Config& c) {
  std::int64_t block = 2 * c.hidden_size + c.q_size() + 2 * c.kv_size();
  for (const Projection p : kAllProjections) {
    block += projection_outputs(c, p) * projection_inputs(c, p);
  }
  const std::int64_t heads = c.tie_word_embeddings ? 1 : 2;
  return c.num_layers * block + heads * c.vocab_size * c.hidden_size + c.hidden_size;
}

}  // namespace qgrpo::model
