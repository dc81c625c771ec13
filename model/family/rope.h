#pragma once

#include <cstdint>

#include "model/ops/rope.h"

// The rotary embedding's frequencies, stretched to contexts longer than the pretraining's.
namespace qgrpo::model {

// f is the plain frequency theta^(-2i/D), P the original context. As transformers computes them
// (modeling_rope_utils.py), in double:
//   linear  f / factor
//   llama3  with w = 2 pi / f: f where w < P / high_freq_factor, f / factor where
//           w > P / low_freq_factor, and between them s f + (1 - s) f / factor,
//           s = (P / w - low_freq_factor) / (high_freq_factor - low_freq_factor)
//   yarn    r f / factor + (1 - r) f, r = clamp((i - low) / (high - low), 0, 1), low and high the
//           pairs that turn beta_fast and beta_slow times in P; cosines and sines are multiplied
//           by attention_factor
struct RopeScaling {
  enum class Type { none, linear, llama3, yarn };
  Type type = Type::none;
  double factor = 1.0;
  std::int64_t original_max_position_embeddings = 0;  // P
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  bool truncate = true;  // low down and high up to whole pairs
  double attention_factor = 1.0;
};

// YaRN's attention factor where none is given: 0.1 ln(factor) + 1.
double yarn_attention_factor(double factor);

RopeFrequencies rope_frequencies(std::int64_t head_dim, double theta, const RopeScaling& scaling);

}  // namespace qgrpo::model
