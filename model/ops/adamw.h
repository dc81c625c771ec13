#pragma once

#include <cstdint>

namespace qgrpo {

// AdamW with decoupled weight decay (Loshchilov & Hutter, 2019), as torch.optim.AdamW and
// bitsandbytes' AdamW8bit:
//   g = grad * grad_scale
//   p = p * (1 - lr * weight_decay)
//   m = beta1 m + (1 - beta1) g
//   v = beta2 v + (1 - beta2) g^2
//   p -= lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + eps)
struct AdamWParams {
  double lr = 0.0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.0;
  std::int64_t step = 1;    // counts from 1
  double grad_scale = 1.0;  // the clipping coefficient, min(1, max_grad_norm / (norm + 1e-6))
};

// One step of it in float32, in the form that an element's loop needs:
//   g = grad grad_scale;  m = m beta1 + one_minus_beta1 g;  v = v beta2 + (one_minus_beta2 g) g
//   p = p decay + (negative_step m) / (sqrt(v) / sqrt_bias_correction2 + eps)
// Every operation is rounded by itself: all backends give the same bits.
struct AdamWCoefficients {
  float grad_scale;
  float decay;  // 1 - lr weight_decay
  float beta1;
  float one_minus_beta1;
  float beta2;
  float one_minus_beta2;
  float negative_step;          // -lr / (1 - beta1^step)
  float sqrt_bias_correction2;  // sqrt(1 - beta2^step)
  float eps;
};
// Throws Error unless the step is 1 or above.
AdamWCoefficients adamw_coefficients(const AdamWParams& params);

// bitsandbytes keeps small tensors in 32 bits; larger ones have blocks of 256 with an absmax each.
inline constexpr std::int64_t kMin8bitSize = 4096;
inline constexpr std::int64_t kOptimizerBlock = 256;
constexpr bool uses_8bit_state(std::int64_t elements) {
  return elements >= kMin8bitSize;
}

constexpr std::int64_t optimizer_blocks(std::int64_t elements) {
  return (elements + kOptimizerBlock - 1) / kOptimizerBlock;
}

// Bytes of both moments of a tensor with the optimizer adamw_torch, and with adamw_8bit.
constexpr std::int64_t adamw_32bit_state_bytes(std::int64_t elements) {
  return 8 * elements;
}
constexpr std::int64_t adamw_8bit_state_bytes(std::int64_t elements) {
  if (!uses_8bit_state(elements)) return adamw_32bit_state_bytes(elements);
  return 2 * elements + 8 * optimizer_blocks(elements);
}

// The factor that brings a gradient of norm `norm` down to `max_norm`, as torch's clip_grad_norm_:
// min(1, max_norm / (norm + 1e-6)). max_norm <= 0 means no clipping; a norm that is not a number
// gives 1.
constexpr double clip_coefficient(double norm, double max_norm) {
  if (max_norm <= 0.0) return 1.0;
  const double coefficient = max_norm / (norm + 1e-6);
  return coefficient < 1.0 ? coefficient : 1.0;
}

}  // namespace qgrpo
