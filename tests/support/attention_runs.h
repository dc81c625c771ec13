#pragma once

#include "cpu/reference/attention.h"
#include "support/on_backend.h"

// Attention over segments on any backend, and what the device may round.
namespace qgrpo::test {

using cases::AttentionCase;
using cases::make_segments;

// q, k, v and d_o on the host: normal numbers, rounded to bf16.
struct AttentionInputs {
  std::vector<float> q, k, v, d_o;
};

struct AttentionProblem {
  AttentionShape shape;
  std::vector<Segment> segments;

  explicit AttentionProblem(const AttentionCase& c) : shape(c.shape), segments(make_segments(c)) {}
  std::int64_t tokens() const {
    std::int64_t sum = 0;
    for (const Segment& s : segments) sum += s.length;
    return sum;
  }
  std::int64_t wide() const { return std::int64_t{shape.heads} * shape.head_dim; }
  std::int64_t narrow() const { return std::int64_t{shape.kv_heads} * shape.head_dim; }
  AttentionInputs inputs(std::uint32_t seed = 30) const {
    return {bf16_values(tokens() * wide(), seed), bf16_values(tokens() * narrow(), seed + 1),
            bf16_values(tokens() * narrow(), seed + 2), bf16_values(tokens() * wide(), seed + 3)};
  }
};

struct AttentionResults {
  std::vector<float> o, lse;      // of the forward
  std::vector<float> dq, dk, dv;  // of the backward
};

inline void run_forward(Backend& backend, const AttentionProblem& p, const AttentionInputs& in,
                        AttentionResults& out) {
  const std::int64_t t = p.tokens();
  const auto unset = [](std::int64_t n) {
    return std::vector<float>(static_cast<std::size_t>(n), NAN);
  };
  const OnBackend q(backend, in.q, {t, p.wide()}), k(backend, in.k, {t, p.narrow()}),
      v(backend, in.v, {t, p.narrow()}), o(backend, unset(t * p.wide()), {t, p.wide()}),
      lse(backend, unset(t * p.shape.heads), {t, p.shape.heads}, DType::f32);
  backend.layer().attention_forward(o, lse, q, k, v, p.shape, p.segments);
  out.o = o.values();
  out.lse = lse.values();
}

// From the o and lse in `out`.
inline void run_backward(Backend& backend, const AttentionProblem& p, const AttentionInputs& in,
                         AttentionResults& out) {
  const std::int64_t t = p.tokens();
  const auto unset = [](std::int64_t n) {
    return std::vector<float>(static_cast<std::size_t>(n), NAN);
  };
  const OnBackend q(backend, in.q, {t, p.wide()}), k(backend, in.k, {t, p.narrow()}),
      v(backend, in.v, {t, p.narrow()}), d_o(backend, in.d_o, {t, p.wide()}),
      o(backend, out.o, {t, p.wide()}), lse(backend, out.lse, {t, p.shape.heads}, DType::f32),
      dq(backend, unset(t * p.wide()), {t, p.wide()}),
      dk(backend, unset(t * p.narrow()), {t, p.narrow()}),
      dv(backend, unset(t * p.narrow()), {t, p.narrow()});
  backend.layer().attention_backward(dq, dk, dv, d_o, q, k, v, o, lse, p.shape, p.segments);
  out.dq = dq.values();
  out.dk = dk.values();
  out.dv = dv.values();
}

inline AttentionResults run_both(Backend& backend, const AttentionProblem& p,
                                 const AttentionInputs& in) {
  AttentionResults out;
  run_forward(backend, p, in, out);
  run_backward(backend, p, in, out);
  return out;
}

// For each element of o, dq, dk and dv the sum of the absolute values of its terms. The device
// rounds one factor of each term (p or ds) to bf16 and the sum again, so an element is off by at
// most kRounding times (this sum + its own value).
inline AttentionResults absolute_sums(const AttentionProblem& p, const AttentionInputs& in,
                                      const AttentionResults& host) {
  AttentionResults sums;
  sums.o.assign(in.q.size(), 0.0f);
  sums.dq.assign(in.q.size(), 0.0f);
  sums.dk.assign(in.k.size(), 0.0f);
  sums.dv.assign(in.k.size(), 0.0f);
  const std::int64_t dim = p.shape.head_dim;
  const std::int64_t group = p.shape.heads / p.shape.kv_heads;
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  for (const Segment& segment : p.segments) {
    for (std::int64_t i = 0; i < segment.length; ++i) {
      for (std::int64_t h = 0; h < p.shape.heads; ++h) {
        const std::int64_t row = (segment.begin + i) * p.shape.heads + h;
        const float* q = in.q.data() + row * dim;
        const float* d_o = in.d_o.data() + row * dim;
        float delta = 0;
        for (std::int64_t d = 0; d < dim; ++d) {
          delta += d_o[d] * host.o[static_cast<std::size_t>(row * dim + d)];
        }
        cpu::reference::for_visible(p.segments, segment, i, [&](std::int64_t j) {
          const std::int64_t at = (j * p.shape.kv_heads + h / group) * dim;
          const float* k = in.k.data() + at;
          const float* v = in.v.data() + at;
          float score = 0, dp = 0;
          for (std::int64_t d = 0; d < dim; ++d) {
            score += q[d] * k[d];
            dp += d_o[d] * v[d];
          }
          const float w = std::exp(score * scale - host.lse[static_cast<std::size_t>(row)]);
          const float ds = std::abs(scale * w * (dp - delta));
          for (std::int64_t d = 0; d < dim; ++d) {
            const auto x = static_cast<std::size_t>(row * dim + d);
            const auto y = static_cast<std::size_t>(at + d);
            sums.o[x] += w * std::abs(v[d]);
            sums.dq[x] += ds * std::abs(k[d]);
            sums.dk[y] += ds * std::abs(q[d]);
            sums.dv[y] += w * std::abs(d_o[d]);
          }
        });
      }
    }
  }
  return sums;
}

// The largest |device - host| as a part of that bound. What float32 sums add to it, also where they
// cancel, is far below 1e-5 for numbers around 1; `size` is that of the largest factor.
inline double worst_of_bound(const std::vector<float>& device, const std::vector<float>& host,
                             const std::vector<float>& sums, double size = 1.0) {
  REQUIRE(device.size() == host.size());
  REQUIRE(sums.size() == host.size());
  double worst = 0;
  for (std::size_t i = 0; i < host.size(); ++i) {
    const double bound = kRounding * (double{sums[i]} + std::abs(double{host[i]})) + 1e-5 * size;
    const double d = std::abs(double{device[i]} - double{host[i]}) / bound;
    if (!(d <= worst)) worst = std::isnan(d) ? INFINITY : d;
  }
  return worst;
}

}  // namespace qgrpo::test
