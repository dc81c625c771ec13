#include "cpu/kernels/gemm.h"

// Softmax statistics over a row of logits.

namespace qgrpo::cpu::QGRPO_ISA {
namespace {

constexpr std::int64_t kBlock = 1024;  // logits whose sum is kept in float32

// The lanes below n keep their value, the others become 0.
f32x16 keep_lanes(f32x16 a, int n) {
  alignas(64) float lanes[16];
  store(lanes, a);
  return load_partial(lanes, n);
}

float row_max(const float* x, std::int64_t count, f32x16 inv_temperature) {
  // Four chains; which lane a logit falls into does not change a maximum.
  f32x16 m[4];
  for (f32x16& each : m) each = splat(-__builtin_inff());
  std::int64_t i = 0;
  for (; i + 64 <= count; i += 64) {
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) m[c] = max(load(x + i + 16 * c) * inv_temperature, m[c]);
  }
  for (; i + 16 <= count; i += 16) m[0] = max(load(x + i) * inv_temperature, m[0]);
  if (i < count) {
    const int n = static_cast<int>(count - i);
    m[1] = max(load_partial(x + i, n, x[i]) * inv_temperature, m[1]);
  }
  return reduce_max(max(max(m[0], m[1]), max(m[2], m[3])));
}

}  // namespace

RowStatistics row_statistics(const float* logits, std::int64_t count, float inv_temperature) {
  const f32x16 t = splat(inv_temperature);
  const float largest = row_max(logits, count, t);
  const f32x16 m = splat(largest);
  double sum = 0.0;       // of e^(x - m)
  double weighted = 0.0;  // of e^(x - m) (x - m)
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const std::int64_t end = begin + kBlock < count ? begin + kBlock : count;
    f32x16 s = zero16();
    f32x16 w = zero16();
    std::int64_t i = begin;
    for (; i + 16 <= end; i += 16) {
      const f32x16 d = load(logits + i) * t - m;
      const f32x16 e = exp(d);
      s = s + e;
      w = fma(e, d, w);
    }
    if (i < end) {
      const int n = static_cast<int>(end - i);
      const f32x16 d = load_partial(logits + i, n, logits[i]) * t - m;
      const f32x16 e = exp(d);
      s = s + keep_lanes(e, n);
      w = w + keep_lanes(e * d, n);
    }
    sum += static_cast<double>(reduce_add(s));
    weighted += static_cast<double>(reduce_add(w));
  }
  RowStatistics out;
  out.max = static_cast<double>(largest);
  const double log_sum = __builtin_log(sum);
  // A logit that is not finite leaves its trace in `weighted`: maxima and exp drop a NaN.
  const bool finite = __builtin_isfinite(weighted);
  out.log_sum_exp = finite ? out.max + log_sum : __builtin_nan("");
  out.entropy = finite ? log_sum - weighted / sum : __builtin_nan("");
  return out;
}

void scaled_exp(float* logits, std::int64_t count, float inv_temperature, float max_logit,
                float factor) {
  const f32x16 t = splat(inv_temperature);
  const f32x16 m = splat(max_logit);
  const f32x16 f = splat(factor);
  std::int64_t i = 0;
  for (; i + 16 <= count; i += 16) store(logits + i, f * exp(load(logits + i) * t - m));
  if (i < count) {
    const int n = static_cast<int>(count - i);
    store_partial(logits + i, f * exp(load_partial(logits + i, n) * t - m), n);
  }
}

}  // namespace qgrpo::cpu::QGRPO_ISA
