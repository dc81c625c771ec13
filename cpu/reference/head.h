#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "model/ops/objective.h"
#include "model/ops/ops.h"

// The specification of the head's operators (TrainOps), Real = float or double.

namespace qgrpo::cpu::reference {

template <typename Real>
struct LogProbability {
  Real logprob = 0;
  Real entropy = 0;
};

// log sum_i exp(z_i).
template <typename Real>
Real logsumexp(std::span<const Real> z) {
  const Real m = *std::max_element(z.begin(), z.end());
  Real sum = 0;
  for (const Real value : z) sum += std::exp(value - m);
  return m + std::log(sum);
}

// z = W h / temperature, (V).
template <typename Real>
std::vector<Real> scaled_logits(const Real* hidden, const Real* weight, std::int64_t vocab,
                                std::int64_t width, Real temperature) {
  std::vector<Real> z(static_cast<std::size_t>(vocab));
  for (std::int64_t n = 0; n < vocab; ++n) {
    Real sum = 0;
    for (std::int64_t k = 0; k < width; ++k) sum += weight[n * width + k] * hidden[k];
    z[static_cast<std::size_t>(n)] = sum / temperature;
  }
  return z;
}

// log p(target) = z_target - lse and the entropy -sum p log p of p = softmax(z).
template <typename Real>
LogProbability<Real> log_probability(std::span<const Real> z, std::int32_t target) {
  const Real lse = logsumexp(z);
  LogProbability<Real> out;
  out.logprob = z[static_cast<std::size_t>(target)] - lse;
  for (const Real value : z) out.entropy -= std::exp(value - lse) * (value - lse);
  return out;
}

// loss = sum over entries of weight * token_objective(log p(target)):
//   dz = weight dL/dlogp (onehot(target) - p),  dh += W^T dz / temperature,
//   dweight += dz h^T / temperature.
// dhidden (rows, H) =; dweight += or null; dhidden null: forward alone. Returns the loss.
template <typename Real>
Real head_objective(std::span<LogProbability<Real>> out, std::span<TokenObjective<Real>> token,
                    Real* dhidden, Real* dweight, const Real* hidden, const Real* weight,
                    std::int64_t rows, std::int64_t vocab, std::int64_t width,
                    std::span<const HeadEntry> entries, std::span<const ObjectiveEntry> terms,
                    const ObjectiveParams& params, Real temperature) {
  if (dhidden != nullptr) std::fill_n(dhidden, rows * width, Real(0));
  Real loss = 0;
  for (std::size_t e = 0; e < entries.size(); ++e) {
    const Real* h = hidden + entries[e].row * width;
    const std::vector<Real> z = scaled_logits(h, weight, vocab, width, temperature);
    out[e] = log_probability<Real>(z, entries[e].target);
    const ObjectiveEntry& term = terms[e];
    token[e] = token_objective<Real>(out[e].logprob, Real(term.old_logprob),
                                     Real(term.reference_logprob), Real(term.advantage), params);
    loss += Real(term.weight) * token[e].loss;
    if (dhidden == nullptr) continue;
    const Real lse = logsumexp<Real>(z);
    for (std::int64_t n = 0; n < vocab; ++n) {
      const Real onehot = n == entries[e].target ? Real(1) : Real(0);
      const Real dz = Real(term.weight) * token[e].dlogprob *
                      (onehot - std::exp(z[static_cast<std::size_t>(n)] - lse)) / temperature;
      for (std::int64_t k = 0; k < width; ++k) {
        dhidden[entries[e].row * width + k] += dz * weight[n * width + k];
        if (dweight != nullptr) dweight[n * width + k] += dz * h[k];
      }
    }
  }
  return loss;
}

}  // namespace qgrpo::cpu::reference
