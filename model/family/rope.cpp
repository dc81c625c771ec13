#include "model/family/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace qgrpo::model {
namespace {

double llama3(double f, const RopeScaling& s) {
  const auto original = static_cast<double>(s.original_max_position_embeddings);
  const double wavelength = 2.0 * std::numbers::pi / f;
  if (wavelength < original / s.high_freq_factor) return f;
  if (wavelength > original / s.low_freq_factor) return f / s.factor;
  const double smooth =
      (original / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
  return (1.0 - smooth) * f / s.factor + smooth * f;
}

// The pair that turns `turns` times in the original context.
double pair_of(double turns, double head_dim, double theta, const RopeScaling& s) {
  const auto original = static_cast<double>(s.original_max_position_embeddings);
  return head_dim * std::log(original / (turns * 2.0 * std::numbers::pi)) / (2.0 * std::log(theta));
}

void apply_yarn(RopeFrequencies& rope, double theta, const RopeScaling& s) {
  const double head_dim = rope.head_dim();
  double low = pair_of(s.beta_fast, head_dim, theta, s);
  double high = pair_of(s.beta_slow, head_dim, theta, s);
  if (s.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, head_dim - 1.0);
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < rope.per_pair.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    double& f = rope.per_pair[i];
    f = ramp * f / s.factor + (1.0 - ramp) * f;
  }
  rope.scale = s.attention_factor;
}

}  // namespace

double yarn_attention_factor(double factor) {
  return factor <= 1.0 ? 1.0 : 0.1 * std::log(factor) + 1.0;
}

RopeFrequencies rope_frequencies(std::int64_t head_dim, double theta, const RopeScaling& scaling) {
  RopeFrequencies rope = qgrpo::rope_frequencies(head_dim, theta);
  switch (scaling.type) {
    case RopeScaling::Type::none:
      break;
    case RopeScaling::Type::linear:
      for (double& f : rope.per_pair) f /= scaling.factor;
      break;
    case RopeScaling::Type::llama3:
      for (double& f : rope.per_pair) f = llama3(f, scaling);
      break;
    case RopeScaling::Type::yarn:
      apply_yarn(rope, theta, scaling);
      break;
  }
  return rope;
}

}  // namespace qgrpo::model
