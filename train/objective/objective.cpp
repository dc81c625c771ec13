#include "train/objective/objective.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "model/ops/error.h"

namespace qgrpo::train {
namespace {

double sum_of_differences(const CompletionTerms& terms, double bound) {
  double sum = 0.0;
  for (std::size_t t = 0; t < terms.old.size(); ++t) {
    const double difference =
        static_cast<double>(terms.logprob[t]) - static_cast<double>(terms.old[t]);
    sum += std::clamp(difference, -bound, bound);
  }
  return sum;
}

// VESPO's weight of a completion.
double vespo_weight(const CompletionTerms& terms) {
  const double k = terms.advantage >= 0.0f ? 2.0 : 3.0;
  const double lambda = terms.advantage >= 0.0f ? 3.0 : 2.0;
  const double log_w = std::clamp(sum_of_differences(terms, 20.0), std::log(1e-8), 20.0);
  return std::exp(lambda + k * log_w - lambda * std::exp(log_w));
}

// A ratio and its derivative with respect to its exponent.
struct Ratio {
  double value = 1.0;
  double slope = 1.0;
};

}  // namespace

ObjectiveKind PolicyObjective::kind() const {
  switch (type) {
    case LossType::cispo:
      return ObjectiveKind::cispo;
    case LossType::sapo:
      return ObjectiveKind::sapo;
    case LossType::vespo:
      return ObjectiveKind::policy_gradient;
    case LossType::grpo:
    case LossType::bnpo:
    case LossType::dr_grpo:
    case LossType::dapo:
    case LossType::luspo:
      return ObjectiveKind::grpo_clip;
  }
  fail("internal error: a loss type without a kind");
}

bool PolicyObjective::needs_completions(bool on_policy) const {
  if (top_entropy_quantile < 1.0) return true;
  // On-policy every ratio is 1, but the corrected KL's derivative still goes through the mean.
  const bool corrected = params.kl_bias_correction && params.beta != 0.0f;
  if (level == ImportanceLevel::sequence && (!on_policy || corrected)) return true;
  return type == LossType::vespo && !on_policy;
}

std::vector<TokenObjective<float>> completion_objective(const PolicyObjective& objective,
                                                        const CompletionTerms& terms) {
  const std::size_t n = terms.logprob.size();
  const bool on_policy = terms.old.empty();
  const bool has_kl = objective.params.beta != 0.0f;
  require(on_policy || terms.old.size() == n, "internal error: {} old log-probs for {} tokens",
          terms.old.size(), n);
  require(!has_kl || terms.reference.size() == n,
          "internal error: {} reference log-probs for {} tokens", terms.reference.size(), n);
  ObjectiveParams params = objective.params;
  params.kind = objective.kind();
  const bool by_sequence = objective.level == ImportanceLevel::sequence;
  const double beta = static_cast<double>(params.beta);
  const double weight = objective.type == LossType::vespo && !on_policy ? vespo_weight(terms) : 1.0;

  Ratio whole;
  std::vector<double> k3(n, 0.0), dk3(n, 0.0);
  double mean_k3 = 0.0;
  if (by_sequence && !on_policy) {
    const double all = std::numeric_limits<double>::infinity();
    whole.value =
        bounded_exp(sum_of_differences(terms, all) / static_cast<double>(n), &whole.slope);
  }
  for (std::size_t t = 0; has_kl && t < n; ++t) {
    const double difference =
        static_cast<double>(terms.reference[t]) - static_cast<double>(terms.logprob[t]);
    k3[t] = k3_divergence(difference, &dk3[t]);
    mean_k3 += k3[t] / static_cast<double>(n);
  }

  std::vector<TokenObjective<float>> out(n);
  for (std::size_t t = 0; t < n; ++t) {
    const double logprob = static_cast<double>(terms.logprob[t]);
    Ratio ratio = whole;
    if (!by_sequence && !on_policy) {
      ratio.value = bounded_exp(logprob - static_cast<double>(terms.old[t]), &ratio.slope);
    }
    TokenObjective<double> token = policy_term(
        logprob, ratio.value, ratio.slope, weight * static_cast<double>(terms.advantage), params);
    if (!terms.entropy.empty() && static_cast<double>(terms.entropy[t]) < terms.entropy_threshold) {
      token.loss = 0.0;
      token.dlogprob = 0.0;
    }
    if (has_kl) {
      double kl = k3[t];
      double dkl = dk3[t];
      if (params.kl_bias_correction) {
        dkl = ratio.slope * (by_sequence ? mean_k3 : k3[t]) + ratio.value * dk3[t];
        kl = ratio.value * k3[t];
      }
      token.kl = kl;
      token.loss += beta * kl;
      token.dlogprob += beta * dkl;
    }
    out[t] = {static_cast<float>(token.loss),
              static_cast<float>(token.dlogprob),
              static_cast<float>(token.kl),
              static_cast<float>(token.ratio),
              token.clipped_low,
              token.clipped_high};
  }
  return out;
}

double entropy_threshold(std::vector<float> entropies, double top_entropy_quantile) {
  if (top_entropy_quantile >= 1.0 || entropies.empty()) {
    return -std::numeric_limits<double>::infinity();
  }
  std::sort(entropies.begin(), entropies.end());
  const double at = (1.0 - top_entropy_quantile) * static_cast<double>(entropies.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, entropies.size() - 1);
  const double part = at - static_cast<double>(below);
  const auto low = static_cast<double>(entropies[below]);
  // In the entropies' own type, as torch has it.
  return static_cast<float>(low + part * (static_cast<double>(entropies[above]) - low));
}

}  // namespace qgrpo::train
