#pragma once

#include <cmath>
#include <cstdint>

// The objective of one completion token: host and device code, no state, no allocation.
//
//   r  = exp(logp - old)                      importance ratio; 1 on-policy, where old = stop(logp)
//   L  = -min( min(r, delta) A, clip(r, 1 - epsilon_low, 1 + epsilon_high) A )  +  beta K
//   K  = k3,  or  r k3 with kl_bias_correction
//   k3 = exp(d) - d - 1,  d = ref - logp      >= 0, an unbiased estimate of KL(policy || reference)
//
// and its derivative with respect to logp, where dr/dlogp = r and dk3/dlogp = 1 - exp(d):
//
//   dL = -(r A where the smaller branch is not held by its clamp, else 0)  +  beta dK
//   dK = 1 - exp(d),  or  r k3 + r (1 - exp(d))
//
// On-policy without bias correction this is the original GRPO loss, -(exp(logp - stop(logp)) A -
// beta k3) (Shao et al. 2024, DeepSeekMath, eq. 3). Clipping: Schulman et al. 2017 (PPO), with
// separate bounds as in DAPO (Yu et al. 2025) and delta as in INTELLECT-2's two-sided clip. Where
// both branches of min are equal each gives half of its derivative, as torch.min does.
//
// exp is continued by its tangent beyond an exponent of 20 (see bounded_exp): a token on which the
// policy and the reference disagree by more than 20 nats gives a large finite loss whose derivative
// is the derivative of what was computed.
//
// How per-token losses are averaged (grpo, bnpo, dr_grpo, dapo) is a weight per token:
// train/loss_weights.h.

#if defined(__CUDACC__)
#define QGRPO_HD __host__ __device__
#else
#define QGRPO_HD
#endif

namespace qgrpo {

enum class ObjectiveKind : std::uint8_t {
  negative_log_likelihood,  // L = -logp; the other inputs are ignored
  grpo_clip                 // the formulas above
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
  bool clipped_high = false;  // r > 1 + epsilon_high and A > 0 (r after delta in both, as in TRL)
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

// The formulas at the top of this file, for one token.
template <typename Real>
QGRPO_HD inline TokenObjective<Real> token_objective(Real logprob, Real old_logprob,
                                                     Real reference_logprob, Real advantage,
                                                     const ObjectiveParams& params) {
  TokenObjective<Real> out;
  if (params.kind == ObjectiveKind::negative_log_likelihood) {
    out.loss = -logprob;
    out.dlogprob = Real(-1);
    return out;
  }

  Real ratio = Real(1);
  Real dratio = Real(1);
  if (!params.on_policy) ratio = bounded_exp(logprob - old_logprob, &dratio);
  out.ratio = ratio;

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
