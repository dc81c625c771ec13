#pragma once

#include "model/ops/nf4.h"
#include "support/on_backend.h"

// The linear's forward and backward on any backend, from a case of the table.
namespace qgrpo::test {

using cases::LinearCase;

inline std::vector<float> run_linear_forward(Backend& backend, const LinearCase& c) {
  // The weight's values on both: on the device a weight has the one value bf16(code * absmax).
  auto w = bf16_values(c.n * c.k, 20, 1.0f / std::sqrt(static_cast<float>(c.k)));
  std::unique_ptr<Weight> weight;
  if (c.format == WeightFormat::nf4 && backend.activation_dtype() == DType::f32) {
    const Nf4Tensor q = nf4_quantize(w, {c.n, c.k});
    nf4_dequantize(w, q);
    for (float& x : w) x = rounded(x);
    weight = backend.prepare({w.data(), DType::f32, {c.n, c.k}}, WeightFormat::f32);
  } else {
    weight = backend.prepare({w.data(), DType::f32, {c.n, c.k}}, c.format);
  }
  const OnBackend x(backend, bf16_values(c.rows * c.k, 21), {c.rows, c.k});
  const OnBackend y(backend,
                    c.residual ? bf16_values(c.rows * c.n, 22)
                               : std::vector<float>(static_cast<std::size_t>(c.rows * c.n), NAN),
                    {c.rows, c.n});
  const OnBackend bias(backend, bf16_values(c.n, 23), {c.n}, DType::f32);
  std::vector<OnBackend> factors;
  std::vector<LoraFactors> adapters;
  factors.reserve(4 * c.ranks.size());
  for (const std::int64_t rank : c.ranks) {
    factors.emplace_back(backend, bf16_values(rank * c.k, 24, 0.1f), Shape{rank, c.k}, DType::f32);
    factors.emplace_back(backend, bf16_values(c.n * rank, 25), Shape{c.n, rank}, DType::f32);
    adapters.push_back({factors[factors.size() - 2], factors.back(), 0.5f});
  }
  Linear linear;
  linear.weight = weight.get();
  if (c.bias) linear.bias = bias;
  linear.adapters = adapters;
  backend.layer().linear_forward(y, x, linear, c.runs,
                                 c.residual ? ConstTensorView(y) : ConstTensorView());
  return y.values();
}

inline constexpr float kLinearScale = 0.5f;

struct LinearBackwardInputs {
  std::vector<float> w, x, dy, dx, dweight, dbias;
  std::vector<std::vector<float>> a, b, da, db;  // one an adapter

  explicit LinearBackwardInputs(const cases::LinearCase& c)
      : w(bf16_values(c.n * c.k, 40, 1.0f / std::sqrt(static_cast<float>(c.n)))),
        x(bf16_values(c.rows * c.k, 41)),
        dy(bf16_values(c.rows * c.n, 42)),
        dx(bf16_values(c.rows * c.k, 43)),
        dweight(bf16_values(c.n * c.k, 44)),
        dbias(bf16_values(c.n, 45)) {
    std::uint32_t seed = 46;
    for (const std::int64_t rank : c.ranks) {
      a.push_back(bf16_values(rank * c.k, seed++, 1.0f / std::sqrt(static_cast<float>(c.k))));
      b.push_back(bf16_values(c.n * rank, seed++, 1.0f / std::sqrt(static_cast<float>(c.n))));
      da.push_back(bf16_values(rank * c.k, seed++));
      db.push_back(bf16_values(c.n * rank, seed++));
    }
    // On both backends a weight has the one value bf16(code * absmax).
    if (c.format == WeightFormat::nf4) {
      nf4_dequantize(w, nf4_quantize(w, {c.n, c.k}));
      for (float& value : w) value = rounded(value);
    }
  }
};

struct LinearBackwardResults {
  std::vector<float> dx, dweight, dbias;
  std::vector<std::vector<float>> da, db;
  bool operator==(const LinearBackwardResults&) const = default;
};

// `shadows`: of the factors' bf16 shadows, where they are given; else null views.
inline LinearBackwardResults run_linear_backward(
    Backend& backend, const cases::LinearCase& c, const LinearBackwardInputs& in,
    const std::vector<std::vector<float>>& shadows = {}) {
  const bool device = backend.activation_dtype() == DType::bf16;
  std::unique_ptr<Weight> weight;
  if (c.format == WeightFormat::nf4 && device) {
    const auto w = bf16_values(c.n * c.k, 40, 1.0f / std::sqrt(static_cast<float>(c.n)));
    weight = backend.prepare({w.data(), DType::f32, {c.n, c.k}}, WeightFormat::nf4);
  } else {
    weight = backend.prepare({in.w.data(), DType::f32, {c.n, c.k}}, WeightFormat::f32);
  }
  const OnBackend x(backend, in.x, {c.rows, c.k}), dy(backend, in.dy, {c.rows, c.n}),
      dx(backend, c.residual ? in.dx : std::vector<float>(in.dx.size(), NAN), {c.rows, c.k}),
      dweight(backend, in.dweight, {c.n, c.k}, DType::f32),
      dbias(backend, in.dbias, {c.n}, DType::f32);
  std::vector<OnBackend> tensors;
  tensors.reserve(6 * c.ranks.size());
  std::vector<LoraFactors> factors;
  std::vector<LoraGradients> lora;
  for (std::size_t i = 0; i < c.ranks.size(); ++i) {
    const Shape of_a{c.ranks[i], c.k}, of_b{c.n, c.ranks[i]};
    const OnBackend& a = tensors.emplace_back(backend, in.a[i], of_a, DType::f32);
    const OnBackend& b = tensors.emplace_back(backend, in.b[i], of_b, DType::f32);
    factors.push_back({a, b, kLinearScale});
    if (!shadows.empty()) {
      factors[i].a_shadow = tensors.emplace_back(backend, shadows[2 * i], of_a);
      factors[i].b_shadow = tensors.emplace_back(backend, shadows[2 * i + 1], of_b);
    }
    const OnBackend& da = tensors.emplace_back(backend, in.da[i], of_a, DType::f32);
    const OnBackend& db = tensors.emplace_back(backend, in.db[i], of_b, DType::f32);
    if (static_cast<std::int64_t>(i) < c.trained) lora.push_back({da, db});
  }
  Linear linear;
  linear.weight = weight.get();
  linear.adapters = factors;
  LinearGradients gradients;
  gradients.adapters = lora;
  if (c.full) {
    gradients.dweight = dweight;
    gradients.dbias = dbias;
  }
  backend.layer().linear_backward(c.dx ? dx.view() : TensorView(), c.residual, gradients, dy, x,
                                  linear, c.runs);
  LinearBackwardResults out;
  if (c.dx) out.dx = dx.values();
  out.dweight = dweight.values();
  out.dbias = dbias.values();
  for (std::size_t i = 0; i < c.ranks.size(); ++i) {
    const std::size_t each = tensors.size() / c.ranks.size();
    out.da.push_back(tensors[i * each + each - 2].values());
    out.db.push_back(tensors[i * each + each - 1].values());
  }
  return out;
}

}  // namespace qgrpo::test
