#include "cpu/sampling.h"

#include <doctest/doctest.h>

#include <map>

#include "cpu/head.h"
#include "cpu/op_support.h"
#include "cpu/reference/sampling.h"
#include "cpu/weight.h"

using namespace qgrpo;
using namespace qgrpo::test;

namespace {

struct Sampler {
  cpu::ThreadPool pool{1};
  cpu::GemmContext gemm;
  cpu::SampleScratch scratch;
  explicit Sampler(cpu::Isa isa = cpu::active_isa()) : gemm(pool, isa) {}
  SampledToken draw(std::vector<float>& logits, const SampleRequest& request) {
    return cpu::sample_row(gemm, cpu::layer_kernels(gemm.isa()), logits, request, scratch);
  }
};

const std::vector<std::int32_t> kSeen{3, 0, 17, 3, 3, 40};

SampleRequest request(const SamplingParams& params, std::uint32_t position) {
  SampleRequest r;
  r.params = params;
  r.seed = 0x123456789abcdefull;
  r.step = 7;
  r.prompt = 2;
  r.sample = 5;
  r.position = position;
  r.seen = kSeen;
  return r;
}

}  // namespace

TEST_CASE("frequencies follow the exact distribution for every setting") {
  for (const std::size_t vocab : {std::size_t{50}, std::size_t{2500}}) {
    const std::uint32_t draws = vocab == 50 ? 10000 : 3000;
    std::vector<float> logits = random_values(vocab, 3, 2.0);
    logits[11] = logits[12] = logits[13];  // ties
    const std::vector<float> before = logits;
    Sampler sampler;
    for (const cases::SamplingCase& setting : cases::sampling()) {
      CAPTURE(vocab);
      CAPTURE(setting.name);
      const std::vector<double> p =
          cpu::reference::sampling_distribution(logits, setting.params, kSeen);
      std::vector<double> count(vocab, 0.0);
      for (std::uint32_t i = 0; i < draws; ++i) {
        const SampledToken t = sampler.draw(logits, request(setting.params, i));
        REQUIRE(t.token >= 0);
        REQUIRE(t.token < static_cast<std::int32_t>(vocab));
        const auto id = static_cast<std::size_t>(t.token);
        REQUIRE(p[id] > 0.0);
        count[id] += 1;
        // Float32 logits of up to ~10 and exps within 2 ulp.
        REQUIRE(std::abs(t.sampled_logprob - std::log(p[id])) < 5e-6);
      }
      CHECK(same_bits(logits, before));
      // Chi-square over cells of 10 expected draws and more, the rest in one: its mean is the
      // number of cells - 1 and its variance twice that; 6 sigma for ~30 tests of fixed seed.
      double chi = 0, cells = 0, rest = 0, rest_expected = 0;
      for (std::size_t i = 0; i < vocab; ++i) {
        const double expected = draws * p[i];
        if (expected >= 10) {
          chi += (count[i] - expected) * (count[i] - expected) / expected;
          ++cells;
        } else {
          rest += count[i];
          rest_expected += expected;
        }
      }
      if (rest_expected >= 10) {
        chi += (rest - rest_expected) * (rest - rest_expected) / rest_expected;
        ++cells;
      }
      const double freedom = std::max(cells - 1, 1.0);
      CHECK(chi < freedom + 6 * std::sqrt(2 * freedom) + 6);
      if (freedom > 5) CHECK(chi > freedom - 6 * std::sqrt(2 * freedom));
    }
  }
}

TEST_CASE("tokens of every setting from the table's logits have the share that was drawn from") {
  Sampler sampler;
  for (const cases::LogitsCase& c : cases::sampling_logits()) {
    CAPTURE(c.name);
    std::vector<float> logits = cases::make_logits(c);
    const std::vector<float> before = logits;
    const std::vector<std::int32_t> seen =
        c.seen ? std::vector<std::int32_t>{3, 0, 6, 3, 3, 5} : std::vector<std::int32_t>{};
    for (const cases::SamplingCase& setting : cases::sampling()) {
      CAPTURE(setting.name);
      const std::vector<double> p =
          cpu::reference::sampling_distribution(logits, setting.params, seen);
      for (std::uint32_t i = 0; i < c.draws; ++i) {
        SampleRequest r = request(setting.params, i);
        r.seen = seen;
        const SampledToken t = sampler.draw(logits, r);
        REQUIRE(t.token >= 0);
        REQUIRE(t.token < c.vocab);
        const double share = p[static_cast<std::size_t>(t.token)];
        REQUIRE(share > 0.0);
        // Relative: logits of up to 100 where they are normal numbers times 30.
        CHECK(std::abs(t.sampled_logprob - std::log(share)) <
              cases::kSampledLogprob.cpu * (1.0 - std::log(share)));
      }
    }
    CHECK(same_bits(logits, before));
  }
}

TEST_CASE("a wrong distribution does not pass as the right one") {
  // The same check with temperature 1.1 taken for 1: what the test above must be able to see.
  std::vector<float> logits = random_values(50, 3, 2.0);
  Sampler sampler;
  const auto p = cpu::reference::sampling_distribution(logits, SamplingParams{}, {});
  std::vector<double> count(50, 0.0);
  for (std::uint32_t i = 0; i < 20000; ++i) {
    count[static_cast<std::size_t>(sampler.draw(logits, request({1.1f}, i)).token)] += 1;
  }
  double chi = 0;
  for (std::size_t i = 0; i < 50; ++i) {
    if (20000 * p[i] >= 10) chi += std::pow(count[i] - 20000 * p[i], 2) / (20000 * p[i]);
  }
  CHECK(chi > 50 + 6 * 10 + 6);
}

TEST_CASE("greedy takes the lowest id among equals, after the penalty") {
  Sampler sampler;
  std::vector<float> logits(2000, -1.0f);
  logits[1500] = logits[300] = logits[301] = 2.0f;
  SampleRequest r = request({0.0f}, 1);
  r.seen = {};
  const SampledToken first = sampler.draw(logits, r);
  CHECK(first.token == 300);
  CHECK(first.sampled_logprob == 0.0f);
  CHECK(first.policy_logprob == first.logprob);
  const double exact = 2.0 - std::log(3 * std::exp(2.0) + 1997 * std::exp(-1.0));
  CHECK(std::abs(first.logprob - exact) < 2e-6);
  r.params.repetition_penalty = 1.5f;
  const std::vector<std::int32_t> seen{300, 300};
  r.seen = seen;
  CHECK(sampler.draw(logits, r).token == 301);
  CHECK(logits[300] == 2.0f);
  // A negative logit is multiplied: penalizing all the others makes the unseen ones win.
  std::vector<float> negative(4, -1.0f);
  const std::vector<std::int32_t> others{0, 1, 3};
  r.seen = others;
  CHECK(sampler.draw(negative, r).token == 2);
}

TEST_CASE("log-probabilities: temperature 1, the policy's, what was really sampled") {
  Sampler sampler;
  std::vector<float> logits = random_values(3001, 8, 3.0);
  for (const cases::SamplingCase& setting : cases::sampling()) {
    CAPTURE(setting.name);
    for (std::uint32_t i = 0; i < 50; ++i) {
      const SampledToken t = sampler.draw(logits, request(setting.params, i));
      const float logit = logits[static_cast<std::size_t>(t.token)];
      const float temperature = setting.params.temperature;
      const float inv = temperature == 0.0f ? 1.0f : inverse_temperature(temperature);
      const auto policy = cpu::row_logsumexp(sampler.gemm, logits, inv);
      const auto plain = cpu::row_logsumexp(sampler.gemm, logits, 1.0f);
      CHECK(t.policy_logprob == cpu::row_logprob(policy, logit, inv));
      CHECK(t.logprob == cpu::row_logprob(plain, logit, 1.0f));
      const SamplingParams& p = setting.params;
      if (p.top_p == 1.0f && p.top_k == 0 && p.min_p == 0.0f && p.repetition_penalty == 1.0f) {
        CHECK(t.sampled_logprob == t.policy_logprob);
      } else if (p.repetition_penalty == 1.0f) {
        CHECK(t.sampled_logprob >= t.policy_logprob - 5e-6f);  // less mass, each share larger
      }
    }
  }
}

TEST_CASE("both instruction sets draw the same tokens with the same log-probabilities") {
  if (!cpu::isa_supported(cpu::Isa::avx512)) return;
  Sampler a(cpu::Isa::avx2), b(cpu::Isa::avx512);
  std::vector<float> logits = random_values(5003, 9, 2.5);
  for (const cases::SamplingCase& setting : cases::sampling()) {
    for (std::uint32_t i = 0; i < 100; ++i) {
      const SampledToken x = a.draw(logits, request(setting.params, i));
      const SampledToken y = b.draw(logits, request(setting.params, i));
      REQUIRE(x.token == y.token);
      REQUIRE(x.logprob == y.logprob);
      REQUIRE(x.policy_logprob == y.policy_logprob);
      REQUIRE(x.sampled_logprob == y.sampled_logprob);
    }
  }
}

TEST_CASE("every part of a draw's key changes it; the draws fill (0, 1) evenly") {
  const SampleRequest base = request({}, 9);
  std::vector<double> seen{sampling_uniform(base)};
  const auto differs = [&](const SampleRequest& r) {
    const double u = sampling_uniform(r);
    for (const double other : seen) CHECK(u != other);
    seen.push_back(u);
  };
  SampleRequest r = base;
  r.seed += 1;
  differs(r);
  r = base;
  r.seed += std::uint64_t{1} << 40;
  differs(r);
  r = base;
  r.step += 1;
  differs(r);
  r = base;
  r.prompt += 1;
  differs(r);
  r = base;
  r.sample += 1;
  differs(r);
  r = base;
  r.position += 1;
  differs(r);
  r = base;
  r.row += 1;  // where the row lies in the batch is no part of it
  CHECK(sampling_uniform(r) == seen[0]);
  double sum = 0;
  for (std::uint32_t i = 0; i < 10000; ++i) {
    const double u = sampling_uniform(request({}, i));
    CHECK((u > 0.0 && u < 1.0));
    sum += u;
  }
  CHECK(std::abs(sum / 10000 - 0.5) < 6 * 0.2887 / 100);  // 6 sigma of a mean of 10000
}

TEST_CASE("tokens depend on their own row and key, not on neighbours or threads") {
  const std::int64_t vocab = 700, width = 32, rows = 9;
  const auto w = random_values(static_cast<std::size_t>(vocab * width), 1, 0.6);
  const auto hidden = random_values(static_cast<std::size_t>(rows * width), 2);
  std::vector<SampleRequest> requests;
  for (std::uint32_t i = 0; i < 24; ++i) {
    SampleRequest r = request(cases::sampling()[i % cases::sampling().size()].params, i);
    r.row = static_cast<std::int32_t>((i * 5) % 7);  // not sorted, several on one row
    requests.push_back(r);
  }
  std::vector<SampledToken> first;
  for (int threads = 1; threads <= 3; ++threads) {
    TestContext test(threads, cpu::active_isa());
    cpu::GemmContext gemm(test.pool, cpu::active_isa());
    const auto weight =
        cpu::CpuWeight::prepare(view(w, {vocab, width}), WeightFormat::f32, test.pool);
    const Linear head{weight.get(), {}, {}};
    std::vector<cpu::SampleScratch> scratch(3);
    const auto draw = [&](std::span<const SampleRequest> some, ConstTensorView h) {
      std::vector<SampledToken> out(some.size());
      cpu::head_sample(gemm, test.context, scratch, out, h, head, some);
      return out;
    };
    const auto equal = [](const SampledToken& a, const SampledToken& b) {
      return a.token == b.token && a.logprob == b.logprob && a.policy_logprob == b.policy_logprob &&
             a.sampled_logprob == b.sampled_logprob;
    };
    const auto all = draw(requests, view(hidden, {rows, width}));
    if (first.empty()) first = all;
    for (std::size_t i = 0; i < all.size(); ++i) {
      CHECK(equal(all[i], first[i]));
      // Alone in a batch of one row.
      const std::vector<float> row(hidden.begin() + requests[i].row * width,
                                   hidden.begin() + (requests[i].row + 1) * width);
      SampleRequest alone = requests[i];
      alone.row = 0;
      CHECK(equal(draw({&alone, 1}, view(row, {1, width}))[0], all[i]));
      // And the training pass finds the policy's log-probability, bit for bit.
      const float drawn_at = requests[i].params.temperature;
      const float temperature = drawn_at == 0.0f ? 1.0f : drawn_at;
      const HeadEntry entry{requests[i].row, all[i].token};
      HeadResult result;
      cpu::head_logprob(gemm, {&result, 1}, view(hidden, {rows, width}), head, {&entry, 1},
                        temperature);
      CHECK(result.logprob == all[i].policy_logprob);
    }
  }
}

TEST_CASE("logits and parameters that make no sense are errors that say so") {
  Sampler sampler;
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    std::vector<float> logits = random_values(100, 1);
    logits[99] = bad;
    CHECK_THROWS_WITH_AS(sampler.draw(logits, request({}, 1)), doctest::Contains("NaN or infinity"),
                         Error);
  }
  std::vector<float> logits = random_values(100, 1);
  const SamplingParams wrong[] = {{-1.0f},
                                  {NAN},
                                  {INFINITY},
                                  {1.0f, 0.0f},
                                  {1.0f, 1.5f},
                                  {1.0f, 1.0f, -1},
                                  {1.0f, 1.0f, 0, -0.1f},
                                  {1.0f, 1.0f, 0, 1.1f},
                                  {1.0f, 1.0f, 0, 0.0f, 0.0f},
                                  {1e-42f}};
  for (const SamplingParams& params : wrong) {
    CHECK_THROWS_AS(sampler.draw(logits, request(params, 1)), Error);
  }
  SampleRequest r = request({1.0f, 1.0f, 0, 0.0f, 1.2f}, 1);
  const std::vector<std::int32_t> outside{100};
  r.seen = outside;
  CHECK_THROWS_AS(sampler.draw(logits, r), Error);
}

TEST_CASE("the vector exponential and the sums keep their accuracy over the whole range") {
  for (const cpu::Isa isa : {cpu::Isa::avx2, cpu::Isa::avx512}) {
    if (!cpu::isa_supported(isa)) continue;
    const cpu::LayerKernels& kernels = cpu::layer_kernels(isa);
    std::vector<float> x, y(1);
    for (float v = -86.9f; v < 87.9f; v += 0.0371f) x.push_back(v);
    y.resize(x.size());
    kernels.exp_values(y.data(), x.data(), static_cast<std::int64_t>(x.size()), 1.0f, 0.0f);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double exact = std::exp(static_cast<double>(x[i]));
      REQUIRE(std::abs(y[i] - exact) <= 2 * 1.2e-7 * exact);  // 2 ulp
    }
    const float special[] = {NAN, 0.0f, -INFINITY};
    kernels.exp_values(y.data(), special, 3, 1.0f, 0.0f);
    CHECK(std::isnan(y[0]));
    CHECK(y[1] == 1.0f);
    CHECK(y[2] < 1e-37f);
    bool finite = true;
    CHECK(kernels.max_finite(x.data(), static_cast<std::int64_t>(x.size()), &finite) == x.back());
    CHECK(finite);
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      x[x.size() - 2] = bad;
      kernels.max_finite(x.data(), static_cast<std::int64_t>(x.size()), &finite);
      CHECK(!finite);
    }
  }
}
