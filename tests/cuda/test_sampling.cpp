#include <algorithm>
#include <numeric>

#include "cpu/head.h"
#include "cpu/reference/sampling.h"
#include "cpu/sampling.h"
#include "cuda/device_support.h"
#include "cuda/sampling.h"

namespace qgrpo::test {
namespace {

using cuda::DecodeSampling;
using cuda::SamplingRow;

bool device_found(const char* name) {
  const auto found = cuda::availability();
  if (found.problem.empty()) return true;
  CHECK(std::getenv("QGRPO_CUDA_REQUIRED") == nullptr);
  fmt::print(stderr, "SKIPPED: {} needs a CUDA device: {}\n", name, found.problem);
  return false;
}

std::vector<float> normal_logits(std::int64_t vocab, std::uint32_t seed, float scale) {
  Rng rng(seed, RngStream::test);
  std::vector<float> out(static_cast<std::size_t>(vocab));
  for (float& x : out) x = scale * rng.normal();
  return out;
}

SampleRequest make_request(const SamplingParams& params, std::uint32_t position,
                           std::span<const std::int32_t> seen, std::int32_t row = 0) {
  SampleRequest r;
  r.row = row;
  r.params = params;
  r.seed = 0x123456789abcdefull;
  r.step = 7;
  r.prompt = 2;
  r.sample = 5;
  r.position = position;
  r.seen = seen;
  return r;
}

// The state of rows on the device, drawn `steps` times.
class DeviceRows {
 public:
  DeviceRows(std::vector<float> logits, std::int64_t vocab) : vocab_(vocab) {
    logits_ = cuda::DeviceMemory(logits.size() * sizeof(float));
    copy(logits_, logits.data(), logits.size() * sizeof(float));
  }

  struct Result {
    std::vector<std::vector<SampledToken>> tokens;
    std::vector<std::int32_t> active, remaining, status, token, position;
  };
  Result draw(std::span<const SampleRequest> requests, std::int32_t steps = 1,
              std::span<const std::int32_t> eos = {}, std::vector<std::int32_t> remaining = {},
              std::vector<std::int32_t> active = {}) {
    const std::size_t n = requests.size();
    std::vector<SamplingRow> rows;
    const auto words = static_cast<std::size_t>(cuda::seen_words(vocab_));
    std::vector<std::uint32_t> seen(n * words);
    for (std::size_t i = 0; i < n; ++i) {
      rows.push_back(cuda::sampling_row(requests[i], eos));
      cuda::mark_seen(std::span(seen).subspan(i * words, words), requests[i], vocab_);
    }
    if (remaining.empty()) remaining.assign(n, steps);
    if (active.empty()) active.assign(n, 1);
    const std::vector<std::int32_t> zeros(n), hundreds(n, 100);
    cuda::DeviceMemory row = on_device(rows), bits = on_device(seen), left = on_device(remaining),
                       on = on_device(active), count = on_device(zeros), status = on_device(zeros),
                       token = on_device(zeros), position = on_device(hundreds);
    std::vector<SampledToken> results(n * static_cast<std::size_t>(steps));
    cuda::DeviceMemory result = on_device(results);
    DecodeSampling state;
    state.row = static_cast<const SamplingRow*>(row.data());
    const auto words_of = [](const cuda::DeviceMemory& m) {
      return static_cast<std::int32_t*>(m.data());
    };
    state.active = words_of(on);
    state.remaining = words_of(left);
    state.count = words_of(count);
    state.status = words_of(status);
    state.token = words_of(token);
    state.position = words_of(position);
    state.results = static_cast<SampledToken*>(result.data());
    state.window = steps;
    state.seen = static_cast<std::uint32_t*>(bits.data());
    state.seen_words = static_cast<std::int64_t>(words);
    for (std::int32_t s = 0; s < steps; ++s) {
      cuda::decode_sample(device_, static_cast<const float*>(logits_.data()),
                          static_cast<std::int64_t>(n), vocab_, state);
    }
    Result out;
    std::vector<std::int32_t> counts(n);
    for (auto* v : {&out.active, &out.remaining, &out.status, &out.token, &out.position}) {
      v->resize(n);
    }
    fetch(out.active, on);
    fetch(out.remaining, left);
    fetch(out.status, status);
    fetch(out.token, token);
    fetch(out.position, position);
    fetch(counts, count);
    fetch(results, result);
    for (std::size_t i = 0; i < n; ++i) {
      const auto first = results.begin() + static_cast<std::ptrdiff_t>(i) * steps;
      out.tokens.emplace_back(first, first + counts[i]);
    }
    return out;
  }

 private:
  void copy(const cuda::DeviceMemory& to, const void* from, std::size_t bytes) {
    QGRPO_CUDA(cudaMemcpyAsync(to.data(), from, bytes, cudaMemcpyHostToDevice, device_.handle()));
    device_.stream().synchronize();
  }
  template <typename T>
  cuda::DeviceMemory on_device(const std::vector<T>& values) {
    cuda::DeviceMemory memory(values.size() * sizeof(T));
    copy(memory, values.data(), values.size() * sizeof(T));
    return memory;
  }
  template <typename T>
  void fetch(std::vector<T>& values, const cuda::DeviceMemory& from) {
    QGRPO_CUDA(cudaMemcpyAsync(values.data(), from.data(), values.size() * sizeof(T),
                               cudaMemcpyDeviceToHost, device_.handle()));
    device_.stream().synchronize();
  }

  cuda::Device device_;
  std::int64_t vocab_;
  cuda::DeviceMemory logits_;
};

struct CpuSampler {
  cpu::ThreadPool pool{1};
  cpu::GemmContext gemm{pool, cpu::active_isa()};
  cpu::SampleScratch scratch;
  SampledToken draw(std::vector<float>& logits, const SampleRequest& request) {
    return cpu::sample_row(gemm, cpu::layer_kernels(gemm.isa()), logits, request, scratch);
  }
};

// How far the request's uniform number lies from the boundary of the two tokens' shares that is
// nearest to it, as a part of all mass.
double boundary_distance(std::span<const float> logits, const SampleRequest& request) {
  const auto p = cpu::reference::sampling_distribution(logits, request.params, request.seen);
  const double u = sampling_uniform(request);
  double sum = 0.0, nearest = 1.0;
  for (const double each : p) {
    sum += each;
    nearest = std::min(nearest, std::abs(sum - u));
  }
  return nearest;
}

bool same_token(const SampledToken& a, const SampledToken& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

const std::vector<std::int32_t> kSeen{3, 0, 6, 3, 3, 5};

// Draws of every setting, against the CPU's from the same logits.
void compare_with_cpu(const cases::LogitsCase& c) {
  CAPTURE(c.name);
  std::vector<float> logits = cases::make_logits(c);
  const std::int64_t vocab = c.vocab;
  std::vector<SampleRequest> requests;
  for (const cases::SamplingCase& setting : cases::sampling()) {
    for (std::uint32_t i = 0; i < c.draws; ++i) {
      requests.push_back(make_request(
          setting.params, i,
          c.seen ? std::span<const std::int32_t>(kSeen) : std::span<const std::int32_t>()));
    }
  }
  DeviceRows device(logits, vocab);
  const auto result = device.draw(requests);
  CpuSampler host;
  int different = 0;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    CAPTURE(cases::sampling()[i / c.draws].name);
    REQUIRE(result.status[i] == 0);
    REQUIRE(result.tokens[i].size() == 1);
    const SampledToken got = result.tokens[i][0];
    const SampledToken expected = host.draw(logits, requests[i]);
    REQUIRE(got.token >= 0);
    REQUIRE(got.token < vocab);
    if (got.token != expected.token) {
      // Both sums are off by roundings of float32 exponentials, 2^-23 of each: only a uniform
      // number as near to a boundary as that may fall to the other side.
      ++different;
      CHECK(requests[i].params.temperature > 0.0f);
      CHECK(boundary_distance(logits, requests[i]) < 1e-6);
      continue;
    }
    REQUIRE(std::abs(got.logprob - expected.logprob) < cases::kSampledLogprob.cuda);
    REQUIRE(std::abs(got.policy_logprob - expected.policy_logprob) < cases::kSampledLogprob.cuda);
    REQUIRE(std::abs(got.sampled_logprob - expected.sampled_logprob) < cases::kSampledLogprob.cuda);
  }
  // Of `draws` numbers, those within 1e-7 of one of V boundaries: less than one in a thousand.
  CHECK(different <= static_cast<int>(requests.size() / 1000) + 1);
}

TEST_CASE("cuda sampling: the CPU's tokens and log-probs from the same logits") {
  if (!device_found("cuda sampling")) return;
  for (const cases::LogitsCase& c : cases::sampling_logits()) compare_with_cpu(c);
}

TEST_CASE("cuda sampling: frequencies follow the exact distribution") {
  if (!device_found("cuda sampling")) return;
  const std::int64_t vocab = 50;
  const std::vector<float> logits = normal_logits(vocab, 7, 1.5f);
  constexpr std::uint32_t kDraws = 1500;
  DeviceRows device(logits, vocab);
  for (const SamplingParams& params :
       {SamplingParams{}, SamplingParams{1.2f, 0.9f, 30, 0.01f, 1.3f}}) {
    std::vector<SampleRequest> requests;
    for (std::uint32_t i = 0; i < kDraws; ++i) {
      requests.push_back(make_request(params, i / 3, kSeen));
      requests.back().sample = i % 3;
    }
    const auto result = device.draw(requests);
    const auto p = cpu::reference::sampling_distribution(logits, params, kSeen);
    const auto hot = cpu::reference::sampling_distribution(
        logits, {params.temperature * 1.5f, params.top_p, params.top_k, params.min_p, 1.0f}, kSeen);
    std::vector<double> count(static_cast<std::size_t>(vocab), 0.0);
    for (const auto& tokens : result.tokens) count[static_cast<std::size_t>(tokens[0].token)] += 1;
    // Chi-square over cells of 10 expected draws and more: mean = cells - 1, variance twice that; 6
    // sigma. A distribution half as warm again must not pass.
    const auto chi = [&](const std::vector<double>& q) {
      double sum = 0.0, cells = 0.0, rest = 0.0, rest_expected = 0.0;
      for (std::size_t i = 0; i < count.size(); ++i) {
        const double expected = kDraws * q[i];
        if (expected >= 10) {
          sum += (count[i] - expected) * (count[i] - expected) / expected;
          ++cells;
        } else {
          rest += count[i];
          rest_expected += expected;
        }
      }
      if (rest_expected >= 10) {
        sum += (rest - rest_expected) * (rest - rest_expected) / rest_expected;
        ++cells;
      }
      return (sum - (cells - 1)) / std::sqrt(2 * (cells - 1));
    };
    CHECK(chi(p) < 6);
    CHECK(chi(hot) > 6);
  }
}

TEST_CASE("cuda sampling: a row's draw has the same bits whatever its neighbours") {
  if (!device_found("cuda sampling")) return;
  const std::int64_t vocab = 3000;
  std::vector<float> logits = normal_logits(2 * vocab, 8, 2.0f);
  DeviceRows device(logits, vocab);
  std::vector<SampleRequest> requests;
  for (const cases::SamplingCase& setting : cases::sampling()) {
    requests.push_back(make_request(setting.params, 11, kSeen, 1));
  }
  const auto together = device.draw(requests, 2);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    CAPTURE(cases::sampling()[i].name);
    const auto alone = device.draw({&requests[i], 1}, 2);
    REQUIRE(alone.tokens[0].size() == 2);
    CHECK(same_token(alone.tokens[0][0], together.tokens[i][0]));
    CHECK(same_token(alone.tokens[0][1], together.tokens[i][1]));
  }
}

TEST_CASE("cuda sampling: a window moves the state on") {
  if (!device_found("cuda sampling")) return;
  const std::int64_t vocab = 40;
  std::vector<float> logits = normal_logits(vocab, 9, 1.0f);
  DeviceRows device(logits, vocab);
  CpuSampler host;
  const SamplingParams params{0.9f, 0.95f, 0, 0.0f, 3.0f};
  const SampleRequest request = make_request(params, 20, kSeen);
  constexpr std::int32_t kSteps = 12;
  // Rows: runs through; two tokens remain; not active; ends at its fourth token.
  std::vector<SampledToken> expected;
  std::vector<std::int32_t> seen = kSeen;
  for (std::int32_t s = 0; s < kSteps; ++s) {
    SampleRequest each = request;
    each.position += static_cast<std::uint32_t>(s);
    each.seen = seen;
    REQUIRE(boundary_distance(logits, each) > 1e-5);
    expected.push_back(host.draw(logits, each));
    seen.push_back(expected.back().token);  // each drawn token is lowered from then on
  }
  const std::vector<SampleRequest> requests(3, request);
  const auto result = device.draw(requests, kSteps, {}, {kSteps, 2, kSteps}, {1, 1, 0});
  REQUIRE(result.tokens[0].size() == kSteps);
  for (std::size_t s = 0; s < kSteps; ++s) {
    CHECK(result.tokens[0][s].token == expected[s].token);
    CHECK(std::abs(result.tokens[0][s].sampled_logprob - expected[s].sampled_logprob) <
          cases::kSampledLogprob.cuda);
  }
  CHECK(result.tokens[1].size() == 2);
  CHECK(result.tokens[2].empty());
  CHECK(result.active == std::vector<std::int32_t>{0, 0, 0});
  CHECK(result.remaining == std::vector<std::int32_t>{0, 0, kSteps});
  CHECK(result.token == std::vector<std::int32_t>{expected.back().token, expected[1].token, 0});
  CHECK(result.position == std::vector<std::int32_t>{100 + kSteps, 102, 100});

  const std::vector<std::int32_t> eos{expected[3].token, vocab + 5};
  const auto first = std::find_if(expected.begin(), expected.end(),
                                  [&](const SampledToken& t) { return t.token == eos[0]; });
  const auto ended = device.draw({requests.data(), 1}, kSteps, eos, {100});
  CHECK(static_cast<std::ptrdiff_t>(ended.tokens[0].size()) == first - expected.begin() + 1);
  CHECK(ended.active[0] == 0);
  // The window's end stops nothing.
  const auto full = device.draw({requests.data(), 1}, kSteps, {}, {100});
  CHECK(full.active[0] == 1);
  CHECK(full.remaining[0] == 100 - kSteps);
}

TEST_CASE("cuda sampling: logits that are not finite stop the row and say why") {
  if (!device_found("cuda sampling")) return;
  const std::int64_t vocab = 2500;
  std::vector<float> logits = normal_logits(5 * vocab, 10, 1.0f);
  const auto row = [&](std::int64_t r) { return logits.begin() + r * vocab; };
  row(0)[2400] = NAN;
  row(1)[17] = INFINITY;
  row(2)[2048] = -INFINITY;
  row(3)[5] = 3e38f;
  DeviceRows device(logits, vocab);
  const std::vector<std::int32_t> seen{5};
  std::vector<SampleRequest> requests;
  for (std::int32_t r = 0; r < 5; ++r) requests.push_back(make_request({}, 4, kSeen, r));
  requests[3].params.temperature = 0.5f;
  requests.push_back(make_request({1.0f, 1.0f, 0, 0.0f, 0.1f}, 4, seen, 3));
  requests.push_back(make_request({0.0f}, 4, {}, 0));
  requests.push_back(make_request({1.0f, 0.9f}, 4, {}, 1));
  const auto result = device.draw(requests, 2);
  CHECK(result.status == std::vector<std::int32_t>{1, 1, 1, 2, 0, 3, 1, 1});
  for (std::size_t i = 0; i < requests.size(); ++i) {
    CHECK(result.tokens[i].size() == (i == 4 ? 2 : 0));
    CHECK(result.active[i] == 0);
  }
  const auto message = [&](std::size_t i, std::int32_t drawn) {
    try {
      cuda::require_drawn(result.status[i], cuda::sampling_row(requests[i]), drawn);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK(message(0, 2).find("prompt 2, sample 5, position 6 hold NaN or infinity") !=
        std::string::npos);
  CHECK(message(3, 0).find("overflow at temperature 0.5") != std::string::npos);
  CHECK(message(4, 0).empty());
  CHECK(message(5, 0).find("repetition_penalty 0.1") != std::string::npos);
}

TEST_CASE("cuda head_sample: equal to the CPU's, several requests a row") {
  const Backends b = both_backends();
  if (!b) return;
  for (const std::int64_t vocab : {std::int64_t{320}, std::int64_t{2504}}) {
    const std::int64_t hidden_rows = 70, width = 64;  // more rows than are taken at once
    const auto w = bf16_values(vocab * width, 50),
               hidden = bf16_values(hidden_rows * width, 51, 0.5f);
    std::vector<SampleRequest> requests;
    for (std::int32_t r = 69; r >= 0; r -= r % 7 == 0 ? 2 : 1) {
      for (std::uint32_t s = 0; s < 1 + static_cast<std::uint32_t>(r) % 3; ++s) {
        requests.push_back(make_request(
            cases::sampling()[requests.size() % cases::sampling().size()].params, s, kSeen, r));
      }
    }
    std::vector<std::vector<SampledToken>> drawn;
    for (Backend* backend : {b.cuda.get(), b.cpu.get()}) {
      const auto weight =
          backend->prepare({w.data(), DType::f32, {vocab, width}}, WeightFormat::bf16);
      Linear head;
      head.weight = weight.get();
      const OnBackend h(*backend, hidden, {hidden_rows, width});
      drawn.emplace_back(requests.size());
      backend->rollout().head_sample(drawn.back(), h, head, requests);
      CHECK_NOTHROW(backend->rollout().head_sample({}, h, head, {}));
      SampleRequest outside = requests[0];
      outside.row = static_cast<std::int32_t>(hidden_rows);
      SampledToken one;
      CHECK_THROWS_AS(backend->rollout().head_sample({&one, 1}, h, head, {&outside, 1}), Error);
    }
    // The logits differ by the order of 64 products' sum: 1e-6, so tokens whose shares' boundary is
    // as near to the uniform number, and thresholds that fall between two logits as near.
    int different = 0;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      if (drawn[0][i].token != drawn[1][i].token) {
        ++different;
        continue;
      }
      CHECK(std::abs(drawn[0][i].logprob - drawn[1][i].logprob) < 2e-5);
      CHECK(std::abs(drawn[0][i].policy_logprob - drawn[1][i].policy_logprob) < 2e-5);
      CHECK(std::abs(drawn[0][i].sampled_logprob - drawn[1][i].sampled_logprob) < 2e-4);
    }
    CHECK(different <= 1);
  }
}

}  // namespace
}  // namespace qgrpo::test
