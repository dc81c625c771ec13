#include "cpu/kernels/rows.h"

#include <cmath>

#include "cpu/kernels/attention.h"
#include "cpu/simd.h"

namespace qgrpo::cpu::QGRPO_ISA {
namespace {

// What a loop over rows needs to treat the last, shorter vector like the others: the same
// operations on lanes padded with `fill`, of which only the first n are stored.
inline f32x16 load_n(const float* p, std::int64_t n, float fill = 0.0f) {
  return n >= 16 ? load(p) : load_partial(p, static_cast<int>(n), fill);
}
inline void store_n(float* p, f32x16 a, std::int64_t n) {
  if (n >= 16) {
    store(p, a);
  } else {
    store_partial(p, a, static_cast<int>(n));
  }
}

// Sum over i of term(i, n - i): four accumulators take vectors in turn, ((0+1) + (2+3)), then the
// tree of reduce_add. `term` must give 0 in the lanes beyond n.
template <typename Term>
inline float fixed_sum(std::int64_t n, Term&& term) {
  f32x16 acc[4] = {zero16(), zero16(), zero16(), zero16()};
  std::int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    for (int a = 0; a < 4; ++a) acc[a] = acc[a] + term(i + 16 * a, std::int64_t{16});
  }
  for (int a = 0; i < n; i += 16, ++a) acc[a] = acc[a] + term(i, n - i);
  return reduce_add((acc[0] + acc[1]) + (acc[2] + acc[3]));
}

}  // namespace

float dot(const float* a, const float* b, std::int64_t n) {
  return fixed_sum(n, [&](std::int64_t i, std::int64_t rest) {
    return load_n(a + i, rest) * load_n(b + i, rest);
  });
}

void rmsnorm_forward(float* y, float* rstd, const float* x, const float* weight, std::int64_t n,
                     float eps) {
  const float mean = dot(x, x, n) / static_cast<float>(n);
  const float r = 1.0f / std::sqrt(mean + eps);
  *rstd = r;
  for (std::int64_t i = 0; i < n; i += 16) {
    store_n(y + i, load_n(x + i, n - i) * splat(r) * load_n(weight + i, n - i), n - i);
  }
}

void rmsnorm_backward(float* dx, const float* dy, const float* x, const float* weight, float rstd,
                      std::int64_t n) {
  const f32x16 r = splat(rstd);
  const float sum = fixed_sum(n, [&](std::int64_t i, std::int64_t rest) {
    return load_n(weight + i, rest) * load_n(dy + i, rest) * (load_n(x + i, rest) * r);
  });
  const f32x16 mean = splat(sum / static_cast<float>(n));
  for (std::int64_t i = 0; i < n; i += 16) {
    const f32x16 x_hat = load_n(x + i, n - i) * r;
    const f32x16 wdy = load_n(weight + i, n - i) * load_n(dy + i, n - i);
    store_n(dx + i, load_n(dx + i, n - i) + r * (wdy - x_hat * mean), n - i);
  }
}

void rmsnorm_dweight(float* dweight, const float* dy, const float* x, float rstd, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += 16) {
    const f32x16 x_hat = load_n(x + i, n - i) * splat(rstd);
    store_n(dweight + i, fma(load_n(dy + i, n - i), x_hat, load_n(dweight + i, n - i)), n - i);
  }
}

void rope(float* x, const float* cos, const float* sin, int half, float sign) {
  for (int i = 0; i < half; i += 16) {
    const int rest = half - i;
    const f32x16 c = load_n(cos + i, rest);
    const f32x16 s = load_n(sin + i, rest) * splat(sign);
    const f32x16 a = load_n(x + i, rest);
    const f32x16 b = load_n(x + half + i, rest);
    store_n(x + i, a * c - b * s, rest);
    store_n(x + half + i, b * c + a * s, rest);
  }
}

void swiglu_forward(float* y, const float* gate, const float* up, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += 16) {
    const f32x16 g = load_n(gate + i, n - i);
    const f32x16 silu = g / (splat(1.0f) + exp(zero16() - g));
    store_n(y + i, silu * load_n(up + i, n - i), n - i);
  }
}

void swiglu_backward(float* dgate, float* dup, const float* dy, const float* gate, const float* up,
                     std::int64_t n) {
  const f32x16 one = splat(1.0f);
  for (std::int64_t i = 0; i < n; i += 16) {
    const f32x16 g = load_n(gate + i, n - i);
    const f32x16 u = load_n(up + i, n - i);
    const f32x16 d = load_n(dy + i, n - i);
    const f32x16 sigmoid = one / (one + exp(zero16() - g));
    const f32x16 silu = g * sigmoid;
    store_n(dgate + i, d * u * (sigmoid + silu * (one - sigmoid)), n - i);
    store_n(dup + i, d * silu, n - i);
  }
}

void add(float* y, const float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += 16) {
    store_n(y + i, load_n(y + i, n - i) + load_n(x + i, n - i), n - i);
  }
}

float max_finite(const float* x, std::int64_t n, bool* finite) {
  f32x16 top = splat(-INFINITY);
  f32x16 zeros = zero16();  // x * 0 is 0 for finite x and NaN otherwise
  for (std::int64_t i = 0; i < n; i += 16) {
    top = max(top, load_n(x + i, n - i, -INFINITY));
    zeros = fma(load_n(x + i, n - i), zero16(), zeros);
  }
  *finite = reduce_add(zeros) == 0.0f;
  return reduce_max(top);
}

float exp_sum(const float* x, std::int64_t n, float scale, float shift) {
  return fixed_sum(n, [&](std::int64_t i, std::int64_t rest) {
    const f32x16 e = exp(load_n(x + i, rest) * splat(scale) - splat(shift));
    return rest >= 16 ? e : keep_first(e, static_cast<int>(rest), 0.0f);
  });
}

void exp_values(float* out, const float* x, std::int64_t n, float scale, float shift) {
  for (std::int64_t i = 0; i < n; i += 16) {
    store_n(out + i, exp(load_n(x + i, n - i) * splat(scale) - splat(shift)), n - i);
  }
}

const LayerKernels& layer_kernel_table() {
  static constexpr LayerKernels table = {
      .pack_rows = pack_rows,
      .pack_transposed = pack_transposed,
      .attention_rows = attention_rows,
      .attention_grad_rows = attention_grad_rows,
      .combine = combine,
      .dot = dot,
      .rmsnorm_forward = rmsnorm_forward,
      .rmsnorm_backward = rmsnorm_backward,
      .rmsnorm_dweight = rmsnorm_dweight,
      .rope = rope,
      .swiglu_forward = swiglu_forward,
      .swiglu_backward = swiglu_backward,
      .add = add,
      .max_finite = max_finite,
      .exp_sum = exp_sum,
      .exp_values = exp_values,
  };
  return table;
}

}  // namespace qgrpo::cpu::QGRPO_ISA
