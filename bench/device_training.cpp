// The operators of prompts and of training: the cases of `bench ops --device cuda`.

#include "bench/device.h"
#include "bench/device_sizes.h"
#include "model/ops/adamw.h"

namespace qgrpo::bench {

DeviceCase DeviceBench::linear_forward() {
  const std::int64_t n = config_.intermediate_size, k = config_.hidden_size;
  const TensorView x = activations({kPrefill, k}), y = activations({kPrefill, n});
  return {sizes(kPrefill, n, k),
          linear_least_bytes(kPrefill, n, k, false) + as_double(2 * kPrefill * k),
          linear_flops(kPrefill, n, k),
          [=, this, all = linears(n, k, false), runs = one_run(kPrefill),
           turn = std::size_t{0}]() mutable {
            backend_.layer().linear_forward(y, x, all[turn++ % all.size()], runs);
          }};
}

DeviceCase DeviceBench::linear_backward() {
  const std::int64_t n = config_.intermediate_size, k = config_.hidden_size;
  const TensorView x = activations({kPrefill, k}), dx = activations({kPrefill, k}),
                   dy = activations({kPrefill, n});
  auto lora = std::make_shared<LoraGradients>();
  lora->da = floats({kRank, k});
  lora->db = floats({n, kRank});
  // dx, da and db: the base once, three products with the factors beside x A^T again.
  const double flops = 2.0 * as_double(kPrefill) * as_double(n * k + 3 * kRank * (n + k));
  // The factors' gradients are read and written.
  const double bytes = nf4_least_bytes(n, k) + as_double(2 * kRank * (n + k)) +
                       as_double(2 * 4 * kRank * (n + k)) + as_double(2 * kPrefill * (n + 2 * k));
  return {sizes(kPrefill, n, k), bytes, flops,
          [=, this, all = linears(n, k, false), runs = one_run(kPrefill),
           turn = std::size_t{0}]() mutable {
            LinearGradients gradients;
            gradients.adapters = std::span(lora.get(), 1);
            backend_.layer().linear_backward(dx, false, gradients, dy, x, all[turn++ % all.size()],
                                             runs);
          }};
}

DeviceCase DeviceBench::rmsnorm_forward() {
  const std::int64_t h = config_.hidden_size;
  const TensorView x = activations({kPrefill, h}), y = activations({kPrefill, h});
  const TensorView rstd = floats({kPrefill}), weight = floats({h});
  return {
      fmt::format("{} x {}", kPrefill, h), as_double(4 * kPrefill * h + 4 * h + 4 * kPrefill), 0.0,
      [=, this] { backend_.layer().rmsnorm_forward(y, rstd, x, weight, config_.rms_norm_eps); }};
}

DeviceCase DeviceBench::rmsnorm_backward() {
  const std::int64_t h = config_.hidden_size;
  const TensorView x = activations({kPrefill, h}), dy = activations({kPrefill, h}),
                   dx = activations({kPrefill, h});
  const TensorView rstd = floats({kPrefill}), weight = floats({h});
  // x, dy and dx are read, dx is written.
  return {fmt::format("{} x {}", kPrefill, h), as_double(8 * kPrefill * h + 4 * h + 4 * kPrefill),
          0.0, [=, this] { backend_.layer().rmsnorm_backward(dx, {}, dy, x, weight, rstd); }};
}

DeviceCase DeviceBench::rope_forward() {
  const TensorView x = activations({kPrefill, config_.q_size()});
  return {fmt::format("{} x {}", kPrefill, config_.q_size()),
          as_double(4 * kPrefill * config_.q_size()), 0.0,
          [=, this, positions = counted(kPrefill)] {
            backend_.layer().rope_forward(x, config_.head_dim, config_.rope_theta, positions);
          }};
}

DeviceCase DeviceBench::swiglu_forward() {
  const std::int64_t f = config_.intermediate_size;
  const TensorView y = activations({kPrefill, f}), gate = activations({kPrefill, f}),
                   up = activations({kPrefill, f});
  return {fmt::format("{} x {}", kPrefill, f), as_double(6 * kPrefill * f), 0.0,
          [=, this] { backend_.layer().swiglu_forward(y, gate, up); }};
}

DeviceCase DeviceBench::swiglu_backward() {
  const std::int64_t f = config_.intermediate_size;
  const TensorView dgate = activations({kPrefill, f}), dup = activations({kPrefill, f}),
                   dy = activations({kPrefill, f}), gate = activations({kPrefill, f}),
                   up = activations({kPrefill, f});
  return {fmt::format("{} x {}", kPrefill, f), as_double(10 * kPrefill * f), 0.0,
          [=, this] { backend_.layer().swiglu_backward(dgate, dup, dy, gate, up); }};
}

struct DeviceBench::AttentionOperands {
  TensorView q, k, v, o, lse;
  std::vector<Segment> segments;
  double forward_flops = 0.0;
};

// A prompt of half the tokens, and two completions.
DeviceBench::AttentionOperands DeviceBench::attention_operands() {
  constexpr auto kHalf = static_cast<std::int32_t>(kPrefill / 2);
  AttentionOperands a;
  a.q = activations({kPrefill, config_.q_size()});
  a.k = activations({kPrefill, config_.kv_size()});
  a.v = activations({kPrefill, config_.kv_size()});
  a.o = activations({kPrefill, config_.q_size()});
  a.lse = floats({kPrefill, config_.num_heads});
  a.segments = {{0, kHalf, 0, -1, -1},
                {kHalf, kHalf / 2, kHalf, 0, -1},
                {kHalf + kHalf / 2, kHalf / 2, kHalf, 0, -1}};
  double pairs = 0.0;  // of a query and a key
  for (const Segment& s : a.segments) {
    pairs += as_double(s.length) * (as_double(s.length + 1) / 2.0 + (s.parent >= 0 ? kHalf : 0));
  }
  a.forward_flops = 4.0 * pairs * as_double(config_.q_size());
  return a;
}

DeviceCase DeviceBench::attention_forward() {
  const AttentionOperands a = attention_operands();
  const double bytes = as_double(4 * kPrefill * (config_.q_size() + config_.kv_size())) +
                       as_double(4 * kPrefill * config_.num_heads);
  return {fmt::format("{} tokens, 3 segments", kPrefill), bytes, a.forward_flops, [=, this] {
            backend_.layer().attention_forward(a.o, a.lse, a.q, a.k, a.v, config_.attention(),
                                               a.segments);
          }};
}

DeviceCase DeviceBench::attention_backward() {
  const AttentionOperands a = attention_operands();
  const TensorView dq = activations(a.q.shape), dk = activations(a.k.shape),
                   dv = activations(a.v.shape), d_o = activations(a.o.shape);
  // A log-sum-exp that belongs to these scores.
  backend_.layer().attention_forward(a.o, a.lse, a.q, a.k, a.v, config_.attention(), a.segments);
  // q, o, do, dq and k, v, dk, dv; five products where the forward pass has two.
  const double bytes = as_double(8 * kPrefill * (config_.q_size() + config_.kv_size())) +
                       as_double(4 * kPrefill * config_.num_heads);
  return {fmt::format("{} tokens, 3 segments", kPrefill), bytes, 2.5 * a.forward_flops, [=, this] {
            backend_.layer().attention_backward(dq, dk, dv, d_o, a.q, a.k, a.v, a.o, a.lse,
                                                config_.attention(), a.segments);
          }};
}

struct DeviceBench::HeadOperands {
  Linear head;
  TensorView hidden;
  std::vector<HeadEntry> entries;
  double bytes = 0.0, flops = 0.0;
};

DeviceBench::HeadOperands DeviceBench::head_operands() {
  const std::int64_t v = config_.vocab_size, h = config_.hidden_size;
  HeadOperands o;
  o.head.weight = &head_weight();
  o.hidden = activations({kHeadRows, h});
  for (std::int32_t i = 0; i < kHeadRows; ++i) {
    o.entries.push_back({i, static_cast<std::int32_t>(i * 7 % v)});
  }
  o.bytes = as_double(2 * v * h + 2 * kHeadRows * h);
  o.flops = 2.0 * as_double(kHeadRows) * as_double(v * h);
  return o;
}

DeviceCase DeviceBench::head_logprob() {
  const HeadOperands o = head_operands();
  return {sizes(kHeadRows, config_.vocab_size, config_.hidden_size), o.bytes, o.flops,
          [=, this, results = std::vector<HeadResult>(o.entries.size())]() mutable {
            backend_.train().head_logprob(results, o.hidden, o.head, o.entries, 1.0f);
          }};
}

DeviceCase DeviceBench::head_objective() {
  const HeadOperands o = head_operands();
  const TensorView dhidden = activations(o.hidden.shape);
  std::vector<ObjectiveEntry> terms(o.entries.size());
  for (ObjectiveEntry& term : terms) {
    term.weight = 1.0f / static_cast<float>(kHeadRows);
    term.advantage = 1.0f;
  }
  return {sizes(kHeadRows, config_.vocab_size, config_.hidden_size),
          o.bytes + as_double(2 * kHeadRows * config_.hidden_size), 2.0 * o.flops,
          [=, this, results = std::vector<HeadResult>(o.entries.size()),
           tokens = std::vector<TokenObjective<float>>(o.entries.size())]() mutable {
            backend_.train().head_objective(results, tokens, dhidden, {}, o.hidden, o.head,
                                            o.entries, terms, {}, 1.0f);
          }};
}

// One factor of the largest adapter.
DeviceCase DeviceBench::adamw_8bit() {
  const std::int64_t n = config_.intermediate_size * kRank;
  const TensorView param = floats({n}), gradient = floats({n});
  const TensorView m = bytes({n}), v = bytes({n});
  const TensorView absmax_m = floats({optimizer_blocks(n)}),
                   absmax_v = floats({optimizer_blocks(n)});
  backend_.layer().zero(absmax_m);
  backend_.layer().zero(absmax_v);
  AdamWParams params;
  params.lr = 1e-6;
  // The gradient is read; parameter and states are read and written.
  return {fmt::format("{}", n), as_double(12 * n + 4 * n + 16 * optimizer_blocks(n)), 0.0,
          [=, this] {
            backend_.train().adamw_8bit(param, m, v, absmax_m, absmax_v, gradient, params);
          }};
}

}  // namespace qgrpo::bench
