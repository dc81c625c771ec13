#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "cpu/reference/head.h"
#include "model/ops/ops.h"

// The specification of the sampler's distribution, in double: transformers' logits processors in
// their order (RepetitionPenalty, Temperature, TopK, TopP, MinP).

namespace qgrpo::cpu::reference {

// p over the vocabulary, sum 1: what a token is drawn from.
//   repetition penalty: z = z > 0 ? z / penalty : z * penalty, once for each id in `seen`
//   temperature: z / temperature; 0 is greedy, all mass on the lowest id among the largest
//   top-k: all logits below the k-th largest go; those equal to it stay
//   top-p: in falling order (the lower id first among equals), the shortest run whose mass is
//          >= top_p stays, at least one
//   min-p: what is left stays if p >= min_p * (the largest p)
inline std::vector<double> sampling_distribution(std::span<const float> logits,
                                                 const SamplingParams& params,
                                                 std::span<const std::int32_t> seen) {
  const std::size_t vocab = logits.size();
  std::vector<double> z(logits.begin(), logits.end());
  std::vector<bool> done(vocab, false);
  for (const std::int32_t id : seen) {
    const auto i = static_cast<std::size_t>(id);
    if (done[i]) continue;
    done[i] = true;
    z[i] = z[i] > 0 ? z[i] / params.repetition_penalty : z[i] * params.repetition_penalty;
  }
  std::vector<double> p(vocab, 0.0);
  if (params.temperature == 0.0f) {
    p[static_cast<std::size_t>(std::max_element(z.begin(), z.end()) - z.begin())] = 1.0;
    return p;
  }
  for (double& value : z) value /= params.temperature;
  const double top = *std::max_element(z.begin(), z.end());
  std::vector<std::size_t> order(vocab);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return z[a] > z[b]; });
  if (params.top_k > 0 && static_cast<std::size_t>(params.top_k) < vocab) {
    const double last = z[order[static_cast<std::size_t>(params.top_k) - 1]];
    while (z[order.back()] < last) order.pop_back();
  }
  const auto mass = [&] {
    double sum = 0;
    for (const std::size_t i : order) sum += std::exp(z[i] - top);
    return sum;
  };
  if (params.top_p < 1.0f) {
    const double wanted = params.top_p * mass();
    double sum = 0;
    std::size_t kept = 0;
    while (kept < order.size() && (kept == 0 || sum < wanted)) {
      sum += std::exp(z[order[kept++]] - top);
    }
    order.resize(kept);
  }
  while (std::exp(z[order.back()] - top) < params.min_p) order.pop_back();
  const double total = mass();
  for (const std::size_t i : order) p[i] = std::exp(z[i] - top) / total;
  return p;
}

}  // namespace qgrpo::cpu::reference
