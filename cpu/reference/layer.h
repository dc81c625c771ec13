#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "model/ops/batch.h"

// The specification of the layer's operators: plain loops over one row at a time, sums in index
// order, Real = float or double. LayerOps gives the formulas, shapes, and what accumulates.

namespace qgrpo::cpu::reference {

// y[t] = table[tokens[t]]. table: (V, H), y: (T, H).
template <typename Real>
void embedding_forward(Real* y, const Real* table, std::span<const std::int32_t> tokens,
                       std::int64_t hidden) {
  for (const std::int32_t token : tokens) {
    y = std::copy_n(table + token * hidden, hidden, y);
  }
}

// target[rows[i]] += values[i]: embedding_backward and scatter_add_rows.
template <typename Real>
void scatter_add_rows(Real* target, const Real* values, std::span<const std::int32_t> rows,
                      std::int64_t width) {
  for (const std::int32_t row : rows) {
    for (std::int64_t i = 0; i < width; ++i) target[row * width + i] += *values++;
  }
}

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

// Turns the pairs (i, i + D/2) of each head by sign * position * theta^(-2i/D), in place.
template <typename Real>
void rope(Real* x, std::int64_t heads, std::int64_t dim, double theta,
          std::span<const std::int32_t> positions, Real sign) {
  const std::int64_t half = dim / 2;
  for (const std::int32_t position : positions) {
    for (std::int64_t h = 0; h < heads; ++h, x += dim) {
      for (std::int64_t i = 0; i < half; ++i) {
        const double angle =
            position * std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
        const Real c = static_cast<Real>(std::cos(angle));
        const Real s = static_cast<Real>(std::sin(angle)) * sign;
        const Real a = x[i];
        const Real b = x[i + half];
        x[i] = a * c - b * s;
        x[i + half] = b * c + a * s;
      }
    }
  }
}

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

// One adapter of a linear: scale B (A x). a: (R, K), b: (N, R); rank 0 adds nothing.
template <typename Real>
struct Lora {
  const Real* a = nullptr;
  const Real* b = nullptr;
  std::int64_t rank = 0;
  Real scale = 0;
  Real* da = nullptr;  // +=, null = not trained
  Real* db = nullptr;  // +=
};

// y (=|+=) W x + bias + scale B (A x), the adapter given by the row's run. weight: (N, K).
template <typename Real>
void linear_forward(Real* y, const Real* x, const Real* weight, const Real* bias,
                    std::span<const Lora<Real>> adapters, std::span<const AdapterRun> runs,
                    std::int64_t outputs, std::int64_t inputs, bool accumulate) {
  for (const AdapterRun& run : runs) {
    const Lora<Real> lora =
        run.adapter >= 0 ? adapters[static_cast<std::size_t>(run.adapter)] : Lora<Real>{};
    std::vector<Real> down(static_cast<std::size_t>(lora.rank));
    for (std::int64_t t = run.begin; t < run.begin + run.length; ++t) {
      const Real* row = x + t * inputs;
      for (std::int64_t r = 0; r < lora.rank; ++r) {
        Real sum = 0;
        for (std::int64_t k = 0; k < inputs; ++k) sum += lora.a[r * inputs + k] * row[k];
        down[static_cast<std::size_t>(r)] = sum;
      }
      for (std::int64_t n = 0; n < outputs; ++n) {
        Real sum = 0;
        for (std::int64_t k = 0; k < inputs; ++k) sum += weight[n * inputs + k] * row[k];
        if (bias != nullptr) sum += bias[n];
        Real low = 0;
        for (std::int64_t r = 0; r < lora.rank; ++r) {
          low += lora.b[n * lora.rank + r] * down[static_cast<std::size_t>(r)];
        }
        sum += lora.scale * low;
        Real& out = y[t * outputs + n];
        out = accumulate ? out + sum : sum;
      }
    }
  }
}

// Of y = W x + bias + s B (A x), with e = B^T dy and u = A x:
//   dx (=|+=) W^T dy + s A^T e,  da += s e x^T,  db += s dy u^T,  dweight += dy x^T,  dbias += dy.
// dx, dweight, dbias may be null.
template <typename Real>
void linear_backward(Real* dx, bool accumulate, Real* dweight, Real* dbias, const Real* dy,
                     const Real* x, const Real* weight, std::span<const Lora<Real>> adapters,
                     std::span<const AdapterRun> runs, std::int64_t outputs, std::int64_t inputs) {
  std::vector<Real> sum(static_cast<std::size_t>(inputs));
  for (const AdapterRun& run : runs) {
    const Lora<Real> lora =
        run.adapter >= 0 ? adapters[static_cast<std::size_t>(run.adapter)] : Lora<Real>{};
    for (std::int64_t t = run.begin; t < run.begin + run.length; ++t) {
      const Real* row = x + t * inputs;
      const Real* drow = dy + t * outputs;
      std::fill(sum.begin(), sum.end(), Real(0));
      for (std::int64_t n = 0; n < outputs; ++n) {
        for (std::int64_t k = 0; k < inputs; ++k) {
          sum[static_cast<std::size_t>(k)] += drow[n] * weight[n * inputs + k];
          if (dweight != nullptr) dweight[n * inputs + k] += drow[n] * row[k];
        }
        if (dbias != nullptr) dbias[n] += drow[n];
      }
      for (std::int64_t r = 0; r < lora.rank; ++r) {
        Real e = 0;
        Real u = 0;
        for (std::int64_t n = 0; n < outputs; ++n) e += lora.b[n * lora.rank + r] * drow[n];
        for (std::int64_t k = 0; k < inputs; ++k) u += lora.a[r * inputs + k] * row[k];
        for (std::int64_t k = 0; k < inputs; ++k) {
          sum[static_cast<std::size_t>(k)] += lora.scale * e * lora.a[r * inputs + k];
          if (lora.da != nullptr) lora.da[r * inputs + k] += lora.scale * e * row[k];
        }
        for (std::int64_t n = 0; lora.db != nullptr && n < outputs; ++n) {
          lora.db[n * lora.rank + r] += lora.scale * drow[n] * u;
        }
      }
      for (std::int64_t k = 0; dx != nullptr && k < inputs; ++k) {
        Real& out = dx[t * inputs + k];
        out =
            accumulate ? out + sum[static_cast<std::size_t>(k)] : sum[static_cast<std::size_t>(k)];
      }
    }
  }
}

}  // namespace qgrpo::cpu::reference
