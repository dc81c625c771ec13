#pragma once

#include <cmath>
#include <cstdint>

// The objective of one completion token: host and device code, no state, no allocation.
//
//   r  = exp(logp - old)        importance ratio; 1 on-policy, where old = stop(logp)
//   L  = P(r, A)  +  beta K
//   K  = k3,  or  r k3 with kl_bias_correction
//   k3 = exp(d) - d - 1,  d = ref - logp      >= 0, an unbiased estimate of KL(policy || reference)
//
// P by kind, sigma(z) = 1 / (1 + exp(-z)):
//   grpo_clip        -min( min(r, delta) A, clip(r, 1 - epsilon_low, 1 + epsilon_high) A )
//   cispo            -stop(min(r, epsilon_high)) A logp          epsilon_high is the bound itself
//   sapo             -(4 / t) sigma(t (r - 1)) A,  t = 1.0 where A > 0, else 1.05
//   policy_gradient  -A logp
//
// and their derivatives with respect to logp, where dr/dlogp = r and dk3/dlogp = 1 - exp(d):
//   grpo_clip        -(r A where the smaller branch is not held by its clamp, else 0)
//   cispo            -min(r, epsilon_high) A
//   sapo             -4 sigma (1 - sigma) r A
//   dK = 1 - exp(d),  or  r k3 + r (1 - exp(d))
//
// On-policy without bias correction grpo_clip is the original GRPO loss, -(exp(logp - stop(logp)) A
// - beta k3) (Shao et al. 2024, DeepSeekMath, eq. 3). Clipping: Schulman et al. 2017 (PPO), with
// separate bounds as in DAPO (Yu et al. 2025) and delta as in INTELLECT-2's two-sided clip. CISPO:
// MiniMax-M1 (2025). SAPO: Gao et al. 2025. Where both branches of min are equal each gives half of
// its derivative, as torch.min does.
//
// exp is continued by its tangent beyond an exponent of 20 (see bounded_exp): a token on which the
// policy and the reference disagree by more than 20 nats gives a large finite loss whose derivative
// is the derivative of what was computed.
//
// Objectives of whole completions (sequence-level ratios): train/objective/objective.h. How per-token losses
// are averaged is a weight per token: train/objective/loss_weights.h.

#if defined(__CUDACC__)
#define QGRPO_HD __host__ __device__
#else
#define QGRPO_HD
#endif

namespace qgrpo {

enum class ObjectiveKind : std::uint8_t {
  negative_log_likelihood,  // L = -logp; the other inputs are ignored
  grpo_clip,                // the formulas above
  cispo,
  sapo,
  policy_gradient
};

struct ObjectiveParams {
  ObjectiveKind kind = ObjectiveKind::grpo_clip;
  bool on_policy = true;            // old_logprob is ignored, r = 1
  bool kl_bias_correction = false;  // TRL's use_bias_correction_kl: the KL term times r
  bool has_delta = false;
  float beta = 0.0f;  // 0: reference_logprob is ignored, kl is 0
  float epsilon_low = 0.2f;
  float epsilon_high = 0.2f;
  float delta = 0.0f;  // upper bound of the unclipped branch's ratio, if has_delta
};

// Of one token, before its weight.
template <typename Real>
struct TokenObjective {
  Real loss = 0;             // L
  Real dlogprob = 0;         // dL / dlogp
  Real kl = 0;               // K (TRL's `kl` metric is its mean over tokens)
  Real ratio = 1;            // r, before delta
  bool clipped_low = false;  // r < 1 - epsilon_low and A < 0: the clip is active at the lower bound
  bool clipped_high = false;  // r > 1 + epsilon_high and A > 0 (r after delta in both, as in TRL);
                              // cispo: r > epsilon_high and A > 0
};

// The exponent beyond which exp goes on as its tangent: exp(20) = 4.9e8.
template <typename Real>
inline constexpr Real kExpTangentFrom = Real(20);

// f(x) = exp(x) for x <= 20, exp(20) (1 + x - 20) beyond; *slope = f'(x). No overflow for finite x
// within 1e29 in float32, continuous with its derivative, monotone.
template <typename Real>
QGRPO_HD inline Real bounded_exp(Real x, Real* slope) {
  const Real from = kExpTangentFrom<Real>;
  if (x > from) {
    *slope = std::exp(from);
    return *slope * (Real(1) + (x - from));
  }
  *slope = std::exp(x);
  return *slope;
}

// k3(d) = exp(d) - d - 1 to nearly full relative accuracy, with exp as in bounded_exp, and
// *dlogprob = dk3/dlogp = 1 - exp(d) for d = ref - logp.
template <typename Real>
QGRPO_HD inline Real k3_divergence(Real d, Real* dlogprob) {
  if (d > kExpTangentFrom<Real>) {
    Real slope;
    const Real value = bounded_exp(d, &slope);
    *dlogprob = Real(1) - slope;
    return value - d - Real(1);
  }
  const Real e = std::expm1(d);
  *dlogprob = -e;
  if (d > Real(-0.125) && d < Real(0.125)) {
    // exp(d) - 1 and d agree in their leading digits here; the Taylor series of the difference,
    // d^2/2 (1 + d/3 (1 + d/4 (1 + ...))), is exact to 1e-17 after d/12.
    Real series = Real(1);
    for (int n = 12; n >= 3; --n) series = Real(1) + series * d / Real(n);
    return d * d * Real(0.5) * series;
  }
  return e - d;
}

// SAPO's temperatures, as TRL has them.
template <typename Real>
inline constexpr Real kSapoPositive = Real(1.0);
template <typename Real>
inline constexpr Real kSapoNegative = Real(1.05);

// P of the clipped objective and its derivative, from r and dr/dlogp.
template <typename Real>
QGRPO_HD inline void clipped_term(TokenObjective<Real>& out, Real ratio, Real dratio,
                                  Real advantage, const ObjectiveParams& params) {
  // The unclipped branch, its ratio held at delta, and the clipped branch.
  Real held = ratio;
  Real dheld = dratio;
  if (params.has_delta && ratio > Real(params.delta)) {
    held = Real(params.delta);
    dheld = Real(0);
  }
  const Real low = Real(1) - Real(params.epsilon_low);
  const Real high = Real(1) + Real(params.epsilon_high);
  const bool inside = ratio >= low && ratio <= high;
  const Real clipped = ratio < low ? low : (ratio > high ? high : ratio);
  const Real dclipped = inside ? dratio : Real(0);

  const Real objective = held * advantage;
  const Real clipped_objective = clipped * advantage;
  if (objective < clipped_objective) {
    out.loss = -objective;
    out.dlogprob = -(dheld * advantage);
  } else if (clipped_objective < objective) {
    out.loss = -clipped_objective;
    out.dlogprob = -(dclipped * advantage);
  } else {
    // Equal, or not a number, which the sum carries on.
    out.loss = -Real(0.5) * (objective + clipped_objective);
    out.dlogprob = -(Real(0.5) * (dheld + dclipped) * advantage);
  }
  out.clipped_low = held < low && advantage < Real(0);
  out.clipped_high = held > high && advantage > Real(0);
}

// P and its derivative from a ratio and its derivative dratio = dr/dlogp: of the token, or of the
// completion that it belongs to (then the derivative of the sum of P over its n tokens, whose ratio
// exp(mean of logp - old) has dr/dlogp = r / n, is this one again). Sets all but kl.
template <typename Real>
QGRPO_HD inline TokenObjective<Real> policy_term(Real logprob, Real ratio, Real dratio,
                                                 Real advantage, const ObjectiveParams& params) {
  TokenObjective<Real> out;
  out.ratio = ratio;
  switch (params.kind) {
    case ObjectiveKind::cispo: {
      const Real bound = Real(params.epsilon_high);
      const Real coefficient = (ratio > bound ? bound : ratio) * advantage;
      out.loss = -(coefficient * logprob);
      out.dlogprob = -coefficient;
      out.clipped_high = ratio > bound && advantage > Real(0);
      break;
    }
    case ObjectiveKind::sapo: {
      const Real t = advantage > Real(0) ? kSapoPositive<Real> : kSapoNegative<Real>;
      const Real gate = Real(1) / (Real(1) + std::exp(-t * (ratio - Real(1))));
      out.loss = -(Real(4) / t * gate * advantage);
      out.dlogprob = -(Real(4) * gate * (Real(1) - gate) * dratio * advantage);
      break;
    }
    case ObjectiveKind::policy_gradient:
      out.loss = -(advantage * logprob);
      out.dlogprob = -advantage;
      break;
    default:
      clipped_term(out, ratio, dratio, advantage, params);
  }
  return out;
}

// The formulas at the top of this file, for one token.
template <typename Real>
QGRPO_HD inline TokenObjective<Real> token_objective(Real logprob, Real old_logprob,
                                                     Real reference_logprob, Real advantage,
                                                     const ObjectiveParams& params) {
  if (params.kind == ObjectiveKind::negative_log_likelihood) {
    TokenObjective<Real> out;
    out.loss = -logprob;
    out.dlogprob = Real(-1);
    return out;
  }
  Real ratio = Real(1);
  Real dratio = Real(1);
  if (!params.on_policy) ratio = bounded_exp(logprob - old_logprob, &dratio);
  TokenObjective<Real> out = policy_term(logprob, ratio, dratio, advantage, params);

  if (params.beta != 0.0f) {
    Real dkl;
    Real kl = k3_divergence(reference_logprob - logprob, &dkl);
    if (params.kl_bias_correction) {
      dkl = dratio * kl + ratio * dkl;
      kl = ratio * kl;
    }
    out.kl = kl;
    out.loss += Real(params.beta) * kl;
    out.dlogprob += Real(params.beta) * dkl;
  }
  return out;
}

}  // namespace qgrpo
