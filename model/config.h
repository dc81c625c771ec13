#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "model/family/family.h"
#include "model/family/rope.h"
#include "model/ops/ops.h"

namespace qgrpo::model {

// A model: its family and its sizes.
struct Config {
  const Family* family = &qwen2();
  std::int64_t hidden_size = 0;        // H
  std::int64_t num_layers = 0;         // L
  std::int64_t num_heads = 0;          // NH
  std::int64_t num_kv_heads = 0;       // NKV
  std::int64_t head_dim = 0;           // D
  std::int64_t intermediate_size = 0;  // F
  std::int64_t vocab_size = 0;         // V
  std::int64_t max_position_embeddings = 32768;
  double rope_theta = 10000.0;
  RopeScaling rope_scaling;
  float rms_norm_eps = 1e-6f;
  bool tie_word_embeddings = false;
  std::vector<std::int32_t>
      eos_token_ids;  // of generation_config.json, and of config.json behind them
  std::int32_t bos_token_id = -1;
  std::int32_t pad_token_id = -1;

  // Tokens that a text may have: max_position_embeddings, or, as in vLLM, what a stretched rotary
  // embedding makes of it (for llama3 the file's number is that already).
  std::int64_t context_length() const;
  std::int64_t q_size() const { return num_heads * head_dim; }
  std::int64_t kv_size() const { return num_kv_heads * head_dim; }
  RopeFrequencies rope() const { return rope_frequencies(head_dim, rope_theta, rope_scaling); }
  AttentionShape attention() const {
    return {static_cast<std::int32_t>(num_heads), static_cast<std::int32_t>(num_kv_heads),
            static_cast<std::int32_t>(head_dim)};
  }
};

// The published sizes: "qwen2.5-3b", "qwen3-8b", "llama-3.1-8b" ..., and "demo". Throws Error listing
// the names.
Config named_shape(const std::string& name);
std::string known_shapes();  // "qwen2.5-0.5b, ..."

// Checks sizes against each other and against sane bounds; `where` names the source in messages.
void check_config(const Config& config, const std::string& where);

// A file's top_k: what is above int32 keeps all tokens just as well. (A negative one stays: it is refused where
// sampling begins.)
std::int32_t top_k(std::int64_t in_file);

// The seven linears of a block, in the order of the forward pass.
enum class Projection : int { q, k, v, o, gate, up, down };
inline constexpr int kProjections = 7;
inline constexpr std::array<Projection, kProjections> kAllProjections = {
    Projection::q,    Projection::k,  Projection::v,   Projection::o,
    Projection::gate, Projection::up, Projection::down};

// One T for each linear of a block.
template <typename T>
class PerProjection {
 public:
  T& operator[](Projection p) { return values_[static_cast<std::size_t>(p)]; }
  const T& operator[](Projection p) const { return values_[static_cast<std::size_t>(p)]; }
  auto begin() const { return values_.begin(); }
  auto end() const { return values_.end(); }

 private:
  std::array<T, kProjections> values_ = {};
};

const char* projection_name(Projection p);  // "q_proj"
const char* projection_path(Projection p);  // "self_attn.q_proj"
std::int64_t projection_outputs(const Config& config, Projection p);
std::int64_t projection_inputs(const Config& config, Projection p);
bool has_bias(const Family& family, Projection p);

// Parameters of the base model (tied heads counted once).
std::int64_t parameter_count(const Config& config);

}  // namespace qgrpo::model
