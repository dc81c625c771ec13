// The operators of prompts and of training: the cases of `bench ops --device cuda`.

#include "bench/device.h"
#include "bench/device_sizes.h"
#include "model/ops/adamw.h"

namespace qgrpo::bench {

DeviceCase DeviceBench::linear_forward() {
  const std::int64_t n = config_.intermediate_size, k = config_.hidden_size;
  const TensorView x = activations({training_rows_, k}), y = activations({training_rows_, n});
  return {sizes(training_rows_, n, k),
          cases::linear_forward_work(linear_case(training_rows_, n, k), kHalf),
          [=, this, all = linears(n, k, false), runs = one_run(training_rows_),
           turn = std::size_t{0}]() mutable {
            backend_.layer().linear_forward(y, x, all[turn++ % all.size()], runs);
          }};
}

DeviceCase DeviceBench::linear_backward() {
  const std::int64_t n = config_.intermediate_size, k = config_.hidden_size;
  const TensorView x = activations({training_rows_, k}), dx = activations({training_rows_, k}),
                   dy = activations({training_rows_, n});
  auto lora = std::make_shared<LoraGradients>();
  lora->da = floats({kRank, k});
  lora->db = floats({n, kRank});
  return {sizes(training_rows_, n, k),
          cases::linear_backward_work(linear_case(training_rows_, n, k), kHalf),
          [=, this, all = linears(n, k, false), runs = one_run(training_rows_),
           turn = std::size_t{0}]() mutable {
            LinearGradients gradients;
            gradients.adapters = std::span(lora.get(), 1);
            backend_.layer().linear_backward(dx, false, gradients, dy, x, all[turn++ % all.size()],
                                             runs);
          }};
}

DeviceCase DeviceBench::rmsnorm_forward() {
  const std::int64_t h = config_.hidden_size;
  const TensorView x = activations({training_rows_, h}), y = activations({training_rows_, h});
  const TensorView rstd = floats({training_rows_}), weight = floats({h});
  return {fmt::format("{} x {}", training_rows_, h),
          cases::rmsnorm_forward_work(row_case(training_rows_, h), kHalf), [=, this] {
            backend_.layer().rmsnorm_forward(y, rstd, x, weight, config_.rms_norm_eps);
          }};
}

DeviceCase DeviceBench::rmsnorm_backward() {
  const std::int64_t h = config_.hidden_size;
  const TensorView x = activations({training_rows_, h}), dy = activations({training_rows_, h}),
                   dx = activations({training_rows_, h});
  const TensorView rstd = floats({training_rows_}), weight = floats({h});
  return {fmt::format("{} x {}", training_rows_, h),
          cases::rmsnorm_backward_work(row_case(training_rows_, h), kHalf),
          [=, this] { backend_.layer().rmsnorm_backward(dx, {}, dy, x, weight, rstd); }};
}

DeviceCase DeviceBench::rope_forward() {
  const TensorView x = activations({training_rows_, config_.q_size()});
  const AttentionShape shape = config_.attention();
  const cases::RopeCase c{"", cases::Kind::real, shape.heads, shape.head_dim,
                          counted(training_rows_)};
  return {fmt::format("{} x {}", training_rows_, config_.q_size()), cases::rope_work(c, kHalf),
          [=, this, positions = c.positions, rope = config_.rope()] {
            backend_.layer().rope_forward(x, rope, positions);
          }};
}

DeviceCase DeviceBench::swiglu_forward() {
  const std::int64_t f = config_.intermediate_size;
  const TensorView y = activations({training_rows_, f}), gate = activations({training_rows_, f}),
                   up = activations({training_rows_, f});
  return {fmt::format("{} x {}", training_rows_, f),
          cases::swiglu_forward_work(row_case(training_rows_, f), kHalf),
          [=, this] { backend_.layer().swiglu_forward(y, gate, up); }};
}

DeviceCase DeviceBench::swiglu_backward() {
  const std::int64_t f = config_.intermediate_size;
  const TensorView dgate = activations({training_rows_, f}), dup = activations({training_rows_, f}),
                   dy = activations({training_rows_, f}), gate = activations({training_rows_, f}),
                   up = activations({training_rows_, f});
  return {fmt::format("{} x {}", training_rows_, f),
          cases::swiglu_backward_work(row_case(training_rows_, f), kHalf),
          [=, this] { backend_.layer().swiglu_backward(dgate, dup, dy, gate, up); }};
}

struct DeviceBench::AttentionOperands {
  TensorView q, k, v, o, lse;
  cases::AttentionCase of;
  std::vector<Segment> segments;
};

// A prompt and completions of equal lengths: 8 behind 256 tokens, or 2 behind half of the few.
DeviceBench::AttentionOperands DeviceBench::attention_operands() {
  const int prompt = timed_ ? kPrompt : static_cast<int>(training_rows_ / 2);
  const int completions = timed_ ? 8 : 2;
  const int length = (static_cast<int>(training_rows_) - prompt) / completions;
  AttentionOperands a;
  a.q = activations({training_rows_, config_.q_size()});
  a.k = activations({training_rows_, config_.kv_size()});
  a.v = activations({training_rows_, config_.kv_size()});
  a.o = activations({training_rows_, config_.q_size()});
  a.lse = floats({training_rows_, config_.num_heads});
  a.of = {"", config_.attention(), {{prompt, -1}}, cases::Kind::real};
  for (int i = 0; i < completions; ++i) a.of.segments.push_back({length, 0});
  a.segments = cases::make_segments(a.of);
  return a;
}

DeviceCase DeviceBench::attention_forward() {
  const AttentionOperands a = attention_operands();
  return {fmt::format("{} tokens, {} segments", training_rows_, a.segments.size()),
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
  return {fmt::format("{} tokens, {} segments", training_rows_, a.segments.size()),
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
  o.hidden = activations({head_rows_, h});
  for (std::int32_t i = 0; i < head_rows_; ++i) {
    o.entries.push_back({i, static_cast<std::int32_t>(i * 7 % v)});
  }
  o.work = cases::head_work(head_rows_, v, h, kHalf);
  return o;
}

DeviceCase DeviceBench::head_logprob() {
  const HeadOperands o = head_operands();
  return {sizes(head_rows_, config_.vocab_size, config_.hidden_size), o.work,
          [=, this, results = std::vector<HeadResult>(o.entries.size())]() mutable {
            backend_.train().head_logprob(results, o.hidden, o.head, o.entries, 1.0f);
          }};
}

DeviceCase DeviceBench::head_objective() {
  const HeadOperands o = head_operands();
  const TensorView dhidden = activations(o.hidden.shape);
  std::vector<ObjectiveEntry> terms(o.entries.size());
  for (ObjectiveEntry& term : terms) {
    term.weight = 1.0f / static_cast<float>(head_rows_);
    term.advantage = 1.0f;
  }
  // dhidden is written, from a second product.
  const cases::Work work{
      2.0 * o.work.flops,
      o.work.bytes + static_cast<double>(kHalf * head_rows_ * config_.hidden_size)};
  return {sizes(head_rows_, config_.vocab_size, config_.hidden_size), work,
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
