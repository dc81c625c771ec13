// The operators of a decode step: the cases of `bench ops --device cuda`.

#include "bench/device.h"
#include "bench/device_sizes.h"

namespace qgrpo::bench {

DeviceCase DeviceBench::decode_rmsnorm() {
  const std::int64_t h = config_.hidden_size;
  const TensorView x = activations({rows_, h}), y = activations({rows_, h});
  const TensorView rstd = floats({rows_}), weight = floats({h});
  return {
      fmt::format("{} x {}", rows_, h), cases::rmsnorm_forward_work(row_case(rows_, h), kHalf),
      [=, this] { backend_.layer().rmsnorm_forward(y, rstd, x, weight, config_.rms_norm_eps); }};
}

DeviceCase DeviceBench::decode_qkv() {
  const std::int64_t h = config_.hidden_size, q = config_.q_size(), kv = config_.kv_size();
  const TensorView x = activations({rows_, h});
  const std::vector<TensorView> y = {activations({rows_, q}), activations({rows_, kv}),
                                     activations({rows_, kv})};
  const std::vector<Linear> of_q = linears(q, h, true), of_k = linears(kv, h, true),
                            of_v = linears(kv, h, true);
  const cases::Work of_one = cases::linear_forward_work(linear_case(rows_, q, h, true), kHalf);
  const cases::Work of_two = cases::linear_forward_work(linear_case(rows_, kv, h, true), kHalf);
  // x is read once.
  const auto x_bytes = static_cast<double>(kHalf * rows_ * h);
  const cases::Work work{of_one.flops + 2.0 * of_two.flops,
                         of_one.bytes + 2.0 * of_two.bytes - 2.0 * x_bytes};
  open_window();
  return {sizes(rows_, q + 2 * kv, h), work,
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
  return {fmt::format("{} x ({} + 2 x {})", rows_, q, kv),
          cases::rope_kv_write_work(rows_, q, kv, kHalf),
          [=, this, positions = counted(rows_, kContext), rope = config_.rope()] {
            backend_.rollout().rope_kv_write(cache, qs, ks, vs, rope, positions, slots);
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
  return {fmt::format("{} x {} keys", rows_, kContext),
          cases::paged_decode_work(config_.attention(), rows_, kContext, kPrompt, kHalf),
          [=, this, alive = tables] {
            backend_.rollout().paged_attention(o, qs, cache, kBlock, config_.attention(),
                                               sequences);
          }};
}

// y = residual + W x.
DeviceCase DeviceBench::decode_linear(std::int64_t outputs, std::int64_t inputs) {
  const TensorView x = activations({rows_, inputs}), y = activations({rows_, outputs}),
                   residual = activations({rows_, outputs});
  open_window();
  return {sizes(rows_, outputs, inputs),
          cases::linear_forward_work(linear_case(rows_, outputs, inputs, false, true), kHalf),
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
  // One output of F a row, from two products of one x.
  const cases::Work of_one = cases::linear_forward_work(linear_case(rows_, f, h), kHalf);
  const cases::Work work{2.0 * of_one.flops,
                         2.0 * of_one.bytes - static_cast<double>(kHalf * rows_ * (h + f))};
  open_window();
  return {sizes(rows_, 2 * f, h), work,
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
  return {sizes(rows_, v, h), cases::head_work(rows_, v, h, kHalf),
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
