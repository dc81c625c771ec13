#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "model/ops/batch.h"

// The specification of the linear with LoRA: plain loops over one row at a time, sums in index
// order, Real = float or double. The interface gives the formulas, shapes, and what accumulates.

namespace qgrpo::cpu::reference {

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
