// The operators of prompts and of training: the cases of `bench ops --device cuda`.

#include "bench/device.h"
#include "bench/device_sizes.h"
#include "model/ops/adamw.h"

namespace qgrpo::bench {

DeviceCase DeviceBench::linear_forward() {
  const std::int64_t n = config_.intermediate_size, k = config_.hidden_size;
  const TensorView x = activations({kPrefill, k}), y = activations({kPrefill, n});
  return {sizes(kPrefill, n, k), cases::linear_forward_work(linear_case(kPrefill, n, k), kHalf),
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
  return {sizes(kPrefill, n, k), cases::linear_backward_work(linear_case(kPrefill, n, k), kHalf),
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
  return {fmt::format("{} x {}", kPrefill, h),
          cases::rmsnorm_forward_work(row_case(kPrefill, h), kHalf), [=, this] {
            backend_.layer().rmsnorm_forward(y, rstd, x, weight, config_.rms_norm_eps);
          }};
}

DeviceCase DeviceBench::rmsnorm_backward() {
  const std::int64_t h = config_.hidden_size;
  const TensorView x = activations({kPrefill, h}), dy = activations({kPrefill, h}),
                   dx = activations({kPrefill, h});
  const TensorView rstd = floats({kPrefill}), weight = floats({h});
  return {fmt::format("{} x {}", kPrefill, h),
          cases::rmsnorm_backward_work(row_case(kPrefill, h), kHalf),
          [=, this] { backend_.layer().rmsnorm_backward(dx, {}, dy, x, weight, rstd); }};
}

DeviceCase DeviceBench::rope_forward() {
  const TensorView x = activations({kPrefill, config_.q_size()});
  const AttentionShape shape = config_.attention();
  const cases::RopeCase c{"", cases::Kind::real, shape.heads, shape.head_dim, counted(kPrefill)};
  return {fmt::format("{} x {}", kPrefill, config_.q_size()), cases::rope_work(c, kHalf),
          [=, this, positions = c.positions, rope = config_.rope()] {
            backend_.layer().rope_forward(x, rope, positions);
          }};
}

DeviceCase DeviceBench::swiglu_forward() {
  const std::int64_t f = config_.intermediate_size;
  const TensorView y = activations({kPrefill, f}), gate = activations({kPrefill, f}),
                   up = activations({kPrefill, f});
  return {fmt::format("{} x {}", kPrefill, f),
          cases::swiglu_forward_work(row_case(kPrefill, f), kHalf),
          [=, this] { backend_.layer().swiglu_forward(y, gate, up); }};
}

DeviceCase DeviceBench::swiglu_backward() {
  const std::int64_t f = config_.intermediate_size;
  const TensorView dgate = activations({kPrefill, f}), dup = activations({kPrefill, f}),
                   dy = activations({kPrefill, f}), gate = activations({kPrefill, f}),
                   up = activations({kPrefill, f});
  return {fmt::format("{} x {}", kPrefill, f),
          cases::swiglu_backward_work(row_case(kPrefill, f), kHalf),
          [=, this] { backend_.layer().swiglu_backward(dgate, dup, dy, gate, up); }};
}

struct DeviceBench::AttentionOperands {
  TensorView q, k, v, o, lse;
  cases::AttentionCase of;
  std::vector<Segment> segments;
};

// A prompt of half the tokens, and two completions.
DeviceBench::AttentionOperands DeviceBench::attention_operands() {
  constexpr auto kFirst = static_cast<int>(kPrefill / 2);
  AttentionOperands a;
  a.q = activations({kPrefill, config_.q_size()});
  a.k = activations({kPrefill, config_.kv_size()});
  a.v = activations({kPrefill, config_.kv_size()});
  a.o = activations({kPrefill, config_.q_size()});
  a.lse = floats({kPrefill, config_.num_heads});
  a.of = {
      "", config_.attention(), {{kFirst, -1}, {kFirst / 2, 0}, {kFirst / 2, 0}}, cases::Kind::real};
  a.segments = cases::make_segments(a.of);
  return a;
}

DeviceCase DeviceBench::attention_forward() {
  const AttentionOperands a = attention_operands();
  return {fmt::format("{} tokens, 3 segments", kPrefill),
          cases::attention_forward_work(a.of, kHalf), [=, this] {
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
  return {fmt::format("{} tokens, 3 segments", kPrefill),
          cases::attention_backward_work(a.of, kHalf), [=, this] {
            backend_.layer().attention_backward(dq, dk, dv, d_o, a.q, a.k, a.v, a.o, a.lse,
                                                config_.attention(), a.segments);
          }};
}

struct DeviceBench::HeadOperands {
  Linear head;
  TensorView hidden;
  std::vector<HeadEntry> entries;
  cases::Work work;
};

DeviceBench::HeadOperands DeviceBench::head_operands() {
  const std::int64_t v = config_.vocab_size, h = config_.hidden_size;
  HeadOperands o;
  o.head.weight = &head_weight();
  o.hidden = activations({kHeadRows, h});
  for (std::int32_t i = 0; i < kHeadRows; ++i) {
    o.entries.push_back({i, static_cast<std::int32_t>(i * 7 % v)});
  }
  o.work = cases::head_work(kHeadRows, v, h, kHalf);
  return o;
}

DeviceCase DeviceBench::head_logprob() {
  const HeadOperands o = head_operands();
  return {sizes(kHeadRows, config_.vocab_size, config_.hidden_size), o.work,
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
  // dhidden is written, from a second product.
  const cases::Work work{
      2.0 * o.work.flops,
      o.work.bytes + static_cast<double>(kHalf * kHeadRows * config_.hidden_size)};
  return {sizes(kHeadRows, config_.vocab_size, config_.hidden_size), work,
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
  return {fmt::format("{}", n), cases::adamw_8bit_work(n), [=, this] {
            backend_.train().adamw_8bit(param, m, v, absmax_m, absmax_v, gradient, params);
          }};
}

}  // namespace qgrpo::bench
