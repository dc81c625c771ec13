#include "model/ops/adamw.h"

#include <cmath>

#include "model/ops/error.h"

namespace qgrpo {

AdamWCoefficients adamw_coefficients(const AdamWParams& p) {
  require(p.step >= 1, "AdamW step {}: steps count from 1", p.step);
  const auto step = static_cast<double>(p.step);
  return {static_cast<float>(p.grad_scale),
          static_cast<float>(1.0 - p.lr * p.weight_decay),
          static_cast<float>(p.beta1),
          static_cast<float>(1.0 - p.beta1),
          static_cast<float>(p.beta2),
          static_cast<float>(1.0 - p.beta2),
          static_cast<float>(-p.lr / (1.0 - std::pow(p.beta1, step))),
          static_cast<float>(std::sqrt(1.0 - std::pow(p.beta2, step))),
          static_cast<float>(p.eps)};
}

}  // namespace qgrpo
