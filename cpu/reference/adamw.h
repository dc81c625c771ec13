#pragma once

#include <cmath>
#include <cstdint>

#include "model/ops/adamw.h"

// The specification of AdamW with float32 states (TrainOps::adamw_32bit): the formulas of
// AdamWParams in double, rounded at the end.

namespace qgrpo::cpu::reference {

inline void adamw(float* param, float* m, float* v, const float* grad, std::int64_t n,
                  const AdamWParams& p) {
  const double correction1 = 1.0 - std::pow(p.beta1, static_cast<double>(p.step));
  const double correction2 = 1.0 - std::pow(p.beta2, static_cast<double>(p.step));
  for (std::int64_t i = 0; i < n; ++i) {
    const double g = grad[i] * p.grad_scale;
    const double mi = p.beta1 * m[i] + (1.0 - p.beta1) * g;
    const double vi = p.beta2 * v[i] + (1.0 - p.beta2) * g * g;
    m[i] = static_cast<float>(mi);
    v[i] = static_cast<float>(vi);
    param[i] = static_cast<float>(param[i] * (1.0 - p.lr * p.weight_decay) -
                                  p.lr / correction1 * mi /
                                      (std::sqrt(vi) / std::sqrt(correction2) + p.eps));
  }
}

}  // namespace qgrpo::cpu::reference
