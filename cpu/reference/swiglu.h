#pragma once

#include <cmath>
#include <cstdint>

// The specification of SwiGLU: plain loops over one row at a time, sums in index order, Real =
// float or double. The interface gives the formulas, shapes, and what accumulates.

namespace qgrpo::cpu::reference {

// y = silu(gate) up, silu(z) = z / (1 + exp(-z)).
template <typename Real>
void swiglu_forward(Real* y, const Real* gate, const Real* up, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = gate[i] / (Real(1) + std::exp(-gate[i])) * up[i];
}

// With s = sigmoid(gate):  dgate = dy up s (1 + gate (1 - s)),  dup = dy gate s.
template <typename Real>
void swiglu_backward(Real* dgate, Real* dup, const Real* dy, const Real* gate, const Real* up,
                     std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const Real g = gate[i];
    const Real u = up[i];
    const Real d = dy[i];
    const Real s = Real(1) / (Real(1) + std::exp(-g));
    dgate[i] = d * u * s * (Real(1) + g * (Real(1) - s));
    dup[i] = d * g * s;
  }
}

}  // namespace qgrpo::cpu::reference
