#pragma once

#include <cmath>
#include <cstdint>

// The specification of RMSNorm: plain loops over one row at a time, sums in index order, Real =
// float or double. The interface gives the formulas, shapes, and what accumulates.

namespace qgrpo::cpu::reference {

// y = x rstd w, rstd = 1 / sqrt(mean(x^2) + eps).
template <typename Real>
void rmsnorm_forward(Real* y, Real* rstd, const Real* x, const Real* weight, std::int64_t rows,
                     std::int64_t hidden, Real eps) {
  for (std::int64_t t = 0; t < rows; ++t, x += hidden, y += hidden) {
    Real squares = 0;
    for (std::int64_t i = 0; i < hidden; ++i) squares += x[i] * x[i];
    rstd[t] = Real(1) / std::sqrt(squares / static_cast<Real>(hidden) + eps);
    for (std::int64_t i = 0; i < hidden; ++i) y[i] = x[i] * rstd[t] * weight[i];
  }
}

// With x_hat = x rstd:  dx += rstd (w dy - x_hat mean(w dy x_hat)),  dweight += dy x_hat.
template <typename Real>
void rmsnorm_backward(Real* dx, Real* dweight, const Real* dy, const Real* x, const Real* weight,
                      const Real* rstd, std::int64_t rows, std::int64_t hidden) {
  for (std::int64_t t = 0; t < rows; ++t, x += hidden, dx += hidden, dy += hidden) {
    Real sum = 0;
    for (std::int64_t i = 0; i < hidden; ++i) sum += weight[i] * dy[i] * (x[i] * rstd[t]);
    const Real mean = sum / static_cast<Real>(hidden);
    for (std::int64_t i = 0; i < hidden; ++i) {
      const Real x_hat = x[i] * rstd[t];
      dx[i] += rstd[t] * (weight[i] * dy[i] - x_hat * mean);
      if (dweight != nullptr) dweight[i] += dy[i] * x_hat;
    }
  }
}

}  // namespace qgrpo::cpu::reference
