// The operators of a decode step: the cases of `bench ops --device cuda`.

#include "bench/device.h"
#include "bench/device_sizes.h"

namespace qgrpo::bench {

DeviceCase DeviceBench::decode_rmsnorm() {
  const std::int64_t h = config_.hidden_size;
  const TensorView x = activations({rows_, h}), y = activations({rows_, h});
  const TensorView rstd = floats({rows_}), weight = floats({h});
  return {
      fmt::format("{} x {}", rows_, h), as_double(4 * rows_ * h + 4 * h + 4 * rows_), 0.0,
      [=, this] { backend_.layer().rmsnorm_forward(y, rstd, x, weight, config_.rms_norm_eps); }};
}

DeviceCase DeviceBench::decode_qkv() {
  const std::int64_t h = config_.hidden_size, q = config_.q_size(), kv = config_.kv_size();
  const TensorView x = activations({rows_, h});
  const std::vector<TensorView> y = {activations({rows_, q}), activations({rows_, kv}),
                                     activations({rows_, kv})};
  const std::vector<Linear> of_q = linears(q, h, true), of_k = linears(kv, h, true),
                            of_v = linears(kv, h, true);
  const double bytes = linear_least_bytes(rows_, q, h, true) +
                       2.0 * linear_least_bytes(rows_, kv, h, true) + as_double(2 * rows_ * h);
  const double flops = linear_flops(rows_, q, h) + 2.0 * linear_flops(rows_, kv, h);
  open_window();
  return {sizes(rows_, q + 2 * kv, h), bytes, flops,
          [=, this, runs = one_run(rows_), turn = std::size_t{0}]() mutable {
            const Linear three[] = {of_q[turn % of_q.size()], of_k[turn % of_k.size()],
                                    of_v[turn % of_v.size()]};
            ++turn;
            backend_.layer().linear_forward_group(y, x, three, runs);
          }};
}

DeviceCase DeviceBench::decode_rope_kv_write() {
  const std::int64_t q = config_.q_size(), kv = config_.kv_size();
  const TensorView qs = activations({rows_, q}), ks = activations({rows_, kv}),
                   vs = activations({rows_, kv});
  const KvCacheLayer cache{activations({rows_, kBlock, kv}), activations({rows_, kBlock, kv})};
  std::vector<std::int32_t> slots;
  for (std::int64_t i = 0; i < rows_; ++i) {
    slots.push_back(static_cast<std::int32_t>(i * kBlock + 3));
  }
  // q and k are read and written, v is read, the cache's k and v are written.
  return {fmt::format("{} x ({} + 2 x {})", rows_, q, kv),
          2.0 * as_double(rows_ * (2 * q + 5 * kv)), 0.0,
          [=, this, positions = counted(rows_, kContext)] {
            backend_.rollout().rope_kv_write(cache, qs, ks, vs, config_.head_dim,
                                             config_.rope_theta, positions, slots);
          }};
}

DeviceCase DeviceBench::decode_attention() {
  const std::int64_t q = config_.q_size(), kv = config_.kv_size();
  constexpr std::int32_t kShared = kPrompt / kBlock, kOwn = (kContext - kPrompt) / kBlock;
  const auto blocks = static_cast<std::int64_t>(kShared) + rows_ * kOwn;
  const KvCacheLayer cache{activations({blocks, kBlock, kv}), activations({blocks, kBlock, kv})};
  const TensorView qs = activations({rows_, q}), o = activations({rows_, q});
  auto tables = std::make_shared<std::vector<std::vector<std::int32_t>>>();
  std::vector<PagedSequence> sequences;
  for (std::int64_t i = 0; i < rows_; ++i) {
    std::vector<std::int32_t> table = counted(kShared);
    const auto own = counted(kOwn, static_cast<std::int32_t>(kShared + i * kOwn));
    table.insert(table.end(), own.begin(), own.end());
    tables->push_back(std::move(table));
    PagedSequence sequence;
    sequence.query_begin = static_cast<std::int32_t>(i);
    sequence.query_length = 1;
    sequence.context_length = kContext;
    sequence.prompt_length = kPrompt;
    sequence.prompt_group = 0;
    sequences.push_back(sequence);
  }
  for (std::size_t i = 0; i < sequences.size(); ++i) sequences[i].block_table = (*tables)[i];
  const std::int64_t keys = kPrompt + rows_ * (kContext - kPrompt);
  return {fmt::format("{} x {} keys", rows_, kContext), as_double(4 * keys * kv + 4 * rows_ * q),
          4.0 * as_double(rows_ * kContext) * as_double(q), [=, this, alive = tables] {
            backend_.rollout().paged_attention(o, qs, cache, kBlock, config_.attention(),
                                               sequences);
          }};
}

// y = residual + W x.
DeviceCase DeviceBench::decode_linear(std::int64_t outputs, std::int64_t inputs) {
  const TensorView x = activations({rows_, inputs}), y = activations({rows_, outputs}),
                   residual = activations({rows_, outputs});
  const double bytes = linear_least_bytes(rows_, outputs, inputs, false) +
                       as_double(2 * rows_ * inputs + 2 * rows_ * outputs);
  open_window();
  return {sizes(rows_, outputs, inputs), bytes, linear_flops(rows_, outputs, inputs),
          [=, this, all = linears(outputs, inputs, false), runs = one_run(rows_),
           turn = std::size_t{0}]() mutable {
            backend_.layer().linear_forward(y, x, all[turn++ % all.size()], runs, residual);
          }};
}

DeviceCase DeviceBench::decode_o() {
  return decode_linear(config_.hidden_size, config_.q_size());
}

DeviceCase DeviceBench::decode_down() {
  return decode_linear(config_.hidden_size, config_.intermediate_size);
}

DeviceCase DeviceBench::decode_gate_up() {
  const std::int64_t h = config_.hidden_size, f = config_.intermediate_size;
  const TensorView x = activations({rows_, h}), act = activations({rows_, f}),
                   gate = activations({rows_, f}), up = activations({rows_, f});
  // One output of F a row, from two products.
  const double bytes =
      2.0 * linear_least_bytes(rows_, f, h, false) + as_double(2 * rows_ * h - 2 * rows_ * f);
  open_window();
  return {sizes(rows_, 2 * f, h), bytes, 2.0 * linear_flops(rows_, f, h),
          [=, this, gates = linears(f, h, false), ups = linears(f, h, false), runs = one_run(rows_),
           turn = std::size_t{0}]() mutable {
            const std::size_t i = turn++ % gates.size();
            backend_.layer().swiglu_linear_forward(act, gate, up, x, gates[i], ups[i], runs, false);
          }};
}

DeviceCase DeviceBench::sampling(const SamplingParams& params) {
  const std::int64_t v = config_.vocab_size, h = config_.hidden_size;
  Linear head;
  head.weight = &head_weight();
  const TensorView hidden = activations({rows_, h});
  std::vector<SampleRequest> requests(static_cast<std::size_t>(rows_));
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i].row = static_cast<std::int32_t>(i);
    requests[i].sample = static_cast<std::uint32_t>(i);
    requests[i].params = params;
  }
  return {sizes(rows_, v, h), as_double(2 * v * h + 2 * rows_ * h),
          2.0 * as_double(rows_) * as_double(v * h),
          [=, this, sampled = std::vector<SampledToken>(requests.size())]() mutable {
            backend_.rollout().head_sample(sampled, hidden, head, requests);
          }};
}

DeviceCase DeviceBench::decode_head_sample() {
  return sampling({});
}

DeviceCase DeviceBench::decode_head_sample_top_p() {
  SamplingParams params;
  params.temperature = 0.7f;
  params.top_p = 0.8f;
  params.top_k = 20;
  return sampling(params);
}

}  // namespace qgrpo::bench
