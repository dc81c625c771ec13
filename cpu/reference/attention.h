#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "model/ops/ops.h"

// The specification of attention: each row's whole softmax at once, Real = float or double.

namespace qgrpo::cpu::reference {

// Calls body(j) for each token that token i of a segment sees: the parent's, then its own up to i.
template <typename Body>
void for_visible(std::span<const Segment> segments, const Segment& segment, std::int64_t i,
                 Body&& body) {
  if (segment.parent >= 0) {
    const Segment& parent = segments[static_cast<std::size_t>(segment.parent)];
    for (std::int64_t j = 0; j < parent.length; ++j) body(parent.begin + j);
  }
  for (std::int64_t j = 0; j <= i; ++j) body(segment.begin + j);
}

// softmax(scores) v of one row, and its log-sum-exp, from the keys and values listed.
template <typename Real>
Real attend(Real* o, const Real* q, std::span<const Real* const> keys,
            std::span<const Real* const> values, std::int64_t dim) {
  const Real scale = Real(1) / std::sqrt(static_cast<Real>(dim));
  std::vector<Real> p(keys.size());
  for (std::size_t j = 0; j < keys.size(); ++j) {
    Real score = 0;
    for (std::int64_t d = 0; d < dim; ++d) score += q[d] * keys[j][d];
    p[j] = score * scale;
  }
  const Real m = *std::max_element(p.begin(), p.end());
  Real l = 0;
  for (Real& value : p) l += value = std::exp(value - m);
  for (std::int64_t d = 0; d < dim; ++d) {
    Real sum = 0;
    for (std::size_t j = 0; j < keys.size(); ++j) sum += p[j] * values[j][d];
    o[d] = sum / l;
  }
  return m + std::log(l);
}

template <typename Real>
void attention_forward(Real* o, Real* lse, const Real* q, const Real* k, const Real* v,
                       const AttentionShape& shape, std::span<const Segment> segments) {
  const std::int64_t dim = shape.head_dim;
  const std::int64_t repeat = shape.heads / shape.kv_heads;
  for (const Segment& segment : segments) {
    for (std::int64_t i = 0; i < segment.length; ++i) {
      for (std::int64_t h = 0; h < shape.heads; ++h) {
        std::vector<const Real*> keys;
        std::vector<const Real*> values;
        for_visible(segments, segment, i, [&](std::int64_t j) {
          const std::int64_t at = (j * shape.kv_heads + h / repeat) * dim;
          keys.push_back(k + at);
          values.push_back(v + at);
        });
        const std::int64_t row = (segment.begin + i) * shape.heads + h;
        lse[row] = attend<Real>(o + row * dim, q + row * dim, keys, values, dim);
      }
    }
  }
}

// With p_j = exp(scale q.k_j - lse), delta = sum_d dO O, ds_j = scale p_j (dO.v_j - delta):
//   dq = sum_j ds_j k_j,  dk_j = sum over rows ds_j q,  dv_j = sum over rows p_j dO.
template <typename Real>
void attention_backward(Real* dq, Real* dk, Real* dv, const Real* d_o, const Real* q, const Real* k,
                        const Real* v, const Real* o, const Real* lse, const AttentionShape& shape,
                        std::span<const Segment> segments) {
  const std::int64_t dim = shape.head_dim;
  const std::int64_t repeat = shape.heads / shape.kv_heads;
  const Real scale = Real(1) / std::sqrt(static_cast<Real>(dim));
  std::int64_t tokens = 0;
  for (const Segment& segment : segments) tokens += segment.length;
  std::fill_n(dq, tokens * shape.heads * dim, Real(0));
  std::fill_n(dk, tokens * shape.kv_heads * dim, Real(0));
  std::fill_n(dv, tokens * shape.kv_heads * dim, Real(0));
  for (const Segment& segment : segments) {
    for (std::int64_t i = 0; i < segment.length; ++i) {
      for (std::int64_t h = 0; h < shape.heads; ++h) {
        const std::int64_t row = (segment.begin + i) * shape.heads + h;
        const Real* qi = q + row * dim;
        const Real* doi = d_o + row * dim;
        Real delta = 0;
        for (std::int64_t d = 0; d < dim; ++d) delta += doi[d] * o[row * dim + d];
        for_visible(segments, segment, i, [&](std::int64_t j) {
          const std::int64_t at = (j * shape.kv_heads + h / repeat) * dim;
          Real score = 0;
          Real dp = 0;
          for (std::int64_t d = 0; d < dim; ++d) {
            score += qi[d] * k[at + d];
            dp += doi[d] * v[at + d];
          }
          const Real p = std::exp(score * scale - lse[row]);
          const Real ds = scale * p * (dp - delta);
          for (std::int64_t d = 0; d < dim; ++d) {
            dq[row * dim + d] += ds * k[at + d];
            dk[at + d] += ds * qi[d];
            dv[at + d] += p * doi[d];
          }
        });
      }
    }
  }
}

}  // namespace qgrpo::cpu::reference
