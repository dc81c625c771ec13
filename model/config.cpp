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

std::int64_t Config::context_length() const {
  const auto stretched = [&](std::int64_t positions) {
    return static_cast<std::int64_t>(static_cast<double>(positions) * rope_scaling.factor);
  };
  switch (rope_scaling.type) {
    case RopeScaling::Type::linear:
      return stretched(max_position_embeddings);
    case RopeScaling::Type::yarn:
      return std::max(max_position_embeddings,
                      stretched(rope_scaling.original_max_position_embeddings));
    default:
      return max_position_embeddings;
  }
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

namespace {

struct NamedShape {
  const char* name;
  const char* model_type;
  std::int64_t hidden, heads, kv_heads, head_dim, ffn, vocab, layers;
  bool tied;
  double rope_theta = 1e6;
  std::int64_t positions = 32768;
  float eps = 1e-6f;
  RopeScaling scaling = {};
};

constexpr RopeScaling llama3_by(double factor) {
  return {.type = RopeScaling::Type::llama3,
          .factor = factor,
          .original_max_position_embeddings = 8192};
}

// As their config.json say.
constexpr NamedShape kShapes[] = {
    {"qwen2.5-0.5b", "qwen2", 896, 14, 2, 64, 4864, 151936, 24, true},
    {"qwen2.5-1.5b", "qwen2", 1536, 12, 2, 128, 8960, 151936, 28, true},
    {"qwen2.5-3b", "qwen2", 2048, 16, 2, 128, 11008, 151936, 36, true},
    {"qwen2.5-7b", "qwen2", 3584, 28, 4, 128, 18944, 152064, 28, false},
    {"qwen3-0.6b", "qwen3", 1024, 16, 8, 128, 3072, 151936, 28, true, 1e6, 40960},
    {"qwen3-1.7b", "qwen3", 2048, 16, 8, 128, 6144, 151936, 28, true, 1e6, 40960},
    {"qwen3-4b", "qwen3", 2560, 32, 8, 128, 9728, 151936, 36, true, 1e6, 40960},
    {"qwen3-8b", "qwen3", 4096, 32, 8, 128, 12288, 151936, 36, false, 1e6, 40960},
    {"qwen3-14b", "qwen3", 5120, 40, 8, 128, 17408, 151936, 40, false, 1e6, 40960},
    {"qwen3-32b", "qwen3", 5120, 64, 8, 128, 25600, 151936, 64, false, 1e6, 40960},
    {"llama-3.2-1b", "llama", 2048, 32, 8, 64, 8192, 128256, 16, true, 5e5, 131072, 1e-5f,
     llama3_by(32.0)},
    {"llama-3.2-3b", "llama", 3072, 24, 8, 128, 8192, 128256, 28, true, 5e5, 131072, 1e-5f,
     llama3_by(32.0)},
    {"llama-3.1-8b", "llama", 4096, 32, 8, 128, 14336, 128256, 32, false, 5e5, 131072, 1e-5f,
     llama3_by(8.0)},
    {"mistral-7b-v0.3", "mistral", 4096, 32, 8, 128, 14336, 32768, 32, false, 1e6, 32768, 1e-5f},
    {"demo", "qwen2", 128, 4, 2, 32, 256, 512, 2, true, 1e4, 512},
};

}  // namespace

Config named_shape(const std::string& name) {
  for (const NamedShape& shape : kShapes) {
    if (name != shape.name) continue;
    Config c;
    c.family = family_of(shape.model_type);
    c.hidden_size = shape.hidden;
    c.num_heads = shape.heads;
    c.num_kv_heads = shape.kv_heads;
    c.head_dim = shape.head_dim;
    c.intermediate_size = shape.ffn;
    c.vocab_size = shape.vocab;
    c.num_layers = shape.layers;
    c.tie_word_embeddings = shape.tied;
    c.rope_theta = shape.rope_theta;
    c.max_position_embeddings = shape.positions;
    c.rms_norm_eps = shape.eps;
    c.rope_scaling = shape.scaling;
    return c;
  }
  fail("\"{}\" is not a known shape; expected one of {}", name, known_shapes());
}

std::string known_shapes() {
  std::string out;
  for (const NamedShape& shape : kShapes) {
    if (!out.empty()) out += ", ";
    out += shape.name;
  }
  return out;
}

bool has_bias(const Family& family, Projection p) {
  return family.qkv_bias && (p == Projection::q || p == Projection::k || p == Projection::v);
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
  std::int64_t block = 2 * c.hidden_size + (c.family->head_norms ? 2 * c.head_dim : 0);
  for (const Projection p : kAllProjections) {
    if (has_bias(*c.family, p)) block += projection_outputs(c, p);
    block += projection_outputs(c, p) * projection_inputs(c, p);
  }
  const std::int64_t heads = c.tie_word_embeddings ? 1 : 2;
  return c.num_layers * block + heads * c.vocab_size * c.hidden_size + c.hidden_size;
}

}  // namespace qgrpo::model
