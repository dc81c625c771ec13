#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "model/ops/rope.h"

// The specification of the rotary embedding: plain loops over one row at a time, sums in index
// order, Real = float or double. The interface gives the formulas, shapes, and what accumulates.

namespace qgrpo::cpu::reference {

// Turns the pairs (i, i + D/2) of each head by sign * position * per_pair[i], times scale, in place.
template <typename Real>
void rope(Real* x, std::int64_t heads, const RopeFrequencies& rope,
          std::span<const std::int32_t> positions, Real sign) {
  const std::int64_t dim = rope.head_dim();
  const std::int64_t half = dim / 2;
  for (const std::int32_t position : positions) {
    for (std::int64_t h = 0; h < heads; ++h, x += dim) {
      for (std::int64_t i = 0; i < half; ++i) {
        const double angle = position * rope.per_pair[static_cast<std::size_t>(i)];
        const Real c = static_cast<Real>(rope.scale * std::cos(angle));
        const Real s = static_cast<Real>(rope.scale * std::sin(angle)) * sign;
        const Real a = x[i];
        const Real b = x[i + half];
        x[i] = a * c - b * s;
        x[i + half] = b * c + a * s;
      }
    }
  }
}

}  // namespace qgrpo::cpu::reference
