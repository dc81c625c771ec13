#include "model/ops/rng.h"

#include <cmath>
#include <numbers>

namespace qgrpo {

float Rng::normal() {
  const double u = uniform();
  const double v = uniform();
  return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v));
}

}  // namespace qgrpo
