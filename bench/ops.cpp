#include <algorithm>
#include <bit>
#include <map>

#include "bench/bench.h"
#include "bench/report.h"
#include "model/ops/cases/cases.h"
#include "model/ops/rng.h"

namespace qgrpo::bench {
namespace {

// Weights are taken in turn from copies of this size together, so that they come from memory, as a
// model's do, and not from a cache.
constexpr std::size_t kHostRotation = std::size_t{48} << 20;
constexpr std::size_t kHostCopies = 64;
constexpr int kFloat = 4;  // bytes of an activation

class OpsBench {
 public:
  OpsBench(Backend& backend, const model::Config& config, const Limits& limits, Report& report)
      : backend_(backend), config_(config), limits_(limits), report_(report) {}

  void run() {
    for (const auto& [format, name] :
         {std::pair{WeightFormat::f32, "linear f32"}, std::pair{WeightFormat::bf16, "linear bf16"},
          std::pair{WeightFormat::nf4, "linear nf4"}}) {
      linear(format, name);
    }
    attention();
    paged_attention();
    rmsnorm();
    head();
  }

 private:
  TensorView random(Shape shape) {
    const auto n = static_cast<std::size_t>(shape.elements());
    std::vector<float> host(n);
    Rng rng(1, RngStream::test, static_cast<std::uint32_t>(buffers_.size()));
    for (float& x : host) x = rng.normal();
    buffers_.push_back(backend_.allocate(n * sizeof(float)));
    const TensorView view{buffers_.back()->data(), DType::f32, shape};
    backend_.upload(view, host.data());
    return view;
  }

  // Bytes a second that can be read of `footprint` bytes: what lies in a cache comes from it.
  double rate(double footprint) {
    const int power = std::bit_width(static_cast<std::size_t>(footprint));
    const auto found = rates_.find(power);
    if (found != rates_.end()) return found->second;
    const double measured = limits_.reading_rate(std::size_t{1} << power);
    return rates_[power] = std::max(measured, limits_.peak.bytes);
  }

  // `footprint`: of all bytes that calls take in turn; 0: those of one.
  void report(const std::string& name, const std::string& shape, const cases::Work& work,
              const std::function<void()>& call, double footprint = 0.0) {
    call();  // first touch
    DevicePeak peak = limits_.peak;
    peak.bytes = rate(std::max(footprint, work.bytes));
    report_.row({"ops", name, shape, timed(call), work.flops, work.bytes, 0.0,
                 peak.least_seconds(work.flops, work.bytes)});
  }

  void linear(WeightFormat format, const std::string& name) {
    const std::int64_t n = config_.intermediate_size;
    const std::int64_t k = config_.hidden_size;
    const TensorView host = random({n, k});
    std::vector<std::unique_ptr<Weight>> weights;
    weights.push_back(backend_.prepare(host, format));
    const std::size_t copies =
        std::clamp<std::size_t>(kHostRotation / weights[0]->bytes(), 1, kHostCopies);
    while (weights.size() < copies) weights.push_back(backend_.prepare(host, format));
    std::size_t turn = 0;
    const auto bytes_of_weight = static_cast<double>(weights[0]->bytes());
    for (const std::int64_t rows : {1, 8, 256}) {
      const TensorView x = random({rows, k});
      const TensorView y = random({rows, n});
      const TensorView dx = random({rows, k});
      const std::vector<AdapterRun> runs = {{0, static_cast<std::int32_t>(rows), -1}};
      cases::LinearCase of;
      of.rows = rows;
      of.n = n;
      of.k = k;
      of.format = format;
      cases::Work work = cases::linear_forward_work(of, kFloat);
      work.bytes += bytes_of_weight - cases::weight_bytes(n, k, format);  // as it is packed
      const std::string shape = fmt::format("{}x{}x{}", rows, n, k);
      const auto next = [&] {
        turn = (turn + 1) % weights.size();
        Linear one;
        one.weight = weights[turn].get();
        return one;
      };
      const double all = bytes_of_weight * static_cast<double>(weights.size());
      report(
          name, shape, work, [&] { backend_.layer().linear_forward(y, x, next(), runs); }, all);
      if (rows < 256) continue;
      report(
          name + " dx", shape, work,
          [&] { backend_.layer().linear_backward(dx, false, {}, y, x, next(), runs); }, all);
    }
    buffers_.clear();
  }

  void attention() {
    constexpr std::int32_t kTokens = 512;
    const TensorView q = random({kTokens, config_.q_size()});
    const TensorView o = random({kTokens, config_.q_size()});
    const TensorView k = random({kTokens, config_.kv_size()});
    const TensorView v = random({kTokens, config_.kv_size()});
    const TensorView lse = random({kTokens, config_.num_heads});
    const std::vector<Segment> segments = {{0, kTokens, 0, -1, -1}};
    const cases::AttentionCase of{"", config_.attention(), {{kTokens, -1}}, cases::Kind::real};
    const cases::Work work = cases::attention_forward_work(of, kFloat);
    report("attention forward", fmt::format("{} tokens", kTokens), work, [&] {
      backend_.layer().attention_forward(o, lse, q, k, v, config_.attention(), segments);
    });
    buffers_.clear();
  }

  void paged_attention() {
    constexpr std::int32_t kSequences = 8, kContext = 512, kBlock = 16;
    constexpr std::int32_t kPerSequence = kContext / kBlock;
    const Shape cache{kSequences * kPerSequence, kBlock, config_.kv_size()};
    const KvCacheLayer layer{random(cache), random(cache)};
    const TensorView q = random({kSequences, config_.q_size()});
    const TensorView o = random({kSequences, config_.q_size()});
    std::vector<std::int32_t> blocks(kSequences * kPerSequence);
    for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<std::int32_t>(i);
    std::vector<PagedSequence> sequences;
    for (std::int32_t s = 0; s < kSequences; ++s) {
      PagedSequence sequence;
      sequence.query_begin = s;
      sequence.query_length = 1;
      sequence.context_length = kContext;
      sequence.prompt_length = kContext / 2;
      sequence.block_table = std::span(blocks).subspan(static_cast<std::size_t>(s * kPerSequence),
                                                       static_cast<std::size_t>(kPerSequence));
      sequences.push_back(sequence);
    }
    const cases::Work work = cases::paged_decode_work(config_.attention(), kSequences, kContext,
                                                      /*prompt=*/0, kFloat);
    report("paged attention, decode", fmt::format("{} x {} keys", kSequences, kContext), work, [&] {
      backend_.rollout().paged_attention(o, q, layer, kBlock, config_.attention(), sequences);
    });
    buffers_.clear();
  }

  void rmsnorm() {
    constexpr std::int64_t kRows = 256;
    const std::int64_t h = config_.hidden_size;
    const TensorView x = random({kRows, h});
    const TensorView y = random({kRows, h});
    const TensorView rstd = random({kRows});
    const TensorView weight = random({h});
    cases::Work work = cases::rmsnorm_forward_work({"", cases::Kind::real, kRows, h}, kFloat);
    work.flops = 4.0 * static_cast<double>(kRows * h);  // not of products
    report("rmsnorm forward", fmt::format("{} x {}", kRows, h), work,
           [&] { backend_.layer().rmsnorm_forward(y, rstd, x, weight, config_.rms_norm_eps); });
    buffers_.clear();
  }

  void head() {
    const std::int64_t v = config_.vocab_size;
    const std::int64_t h = config_.hidden_size;
    std::unique_ptr<Weight> weight;
    {
      const TensorView host = random({v, h});
      weight = backend_.prepare(host, WeightFormat::bf16);
      buffers_.clear();
    }
    Linear head;
    head.weight = weight.get();
    constexpr std::int64_t kSamples = 8;
    const TensorView few = random({kSamples, h});
    std::vector<SampleRequest> requests(kSamples);
    std::vector<SampledToken> sampled(kSamples);
    for (std::int32_t i = 0; i < kSamples; ++i) {
      requests[static_cast<std::size_t>(i)].row = i;
      requests[static_cast<std::size_t>(i)].sample = static_cast<std::uint32_t>(i);
    }
    report("head + sampling bf16", fmt::format("{}x{}x{}", kSamples, v, h),
           cases::head_work(kSamples, v, h, kFloat),
           [&] { backend_.rollout().head_sample(sampled, few, head, requests); });

    constexpr std::int64_t kRows = 128;
    const TensorView many = random({kRows, h});
    std::vector<HeadEntry> entries(kRows);
    std::vector<HeadResult> results(kRows);
    for (std::int32_t i = 0; i < kRows; ++i) {
      entries[static_cast<std::size_t>(i)] = {i, static_cast<std::int32_t>(i % v)};
    }
    report("head log-probs bf16", fmt::format("{}x{}x{}", kRows, v, h),
           cases::head_work(kRows, v, h, kFloat),
           [&] { backend_.train().head_logprob(results, many, head, entries, 1.0f); });
    buffers_.clear();
  }

  Backend& backend_;
  const model::Config& config_;
  const Limits& limits_;
  Report& report_;
  std::map<int, double> rates_;  // by the power of two of the bytes
  std::vector<std::unique_ptr<Buffer>> buffers_;
};

}  // namespace

void bench_ops(Backend& backend, const model::Config& config, const Limits& limits,
               Report& report) {
  OpsBench(backend, config, limits, report).run();
}

}  // namespace qgrpo::bench
