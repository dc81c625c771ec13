#include "cpu/head.h"

#include <algorithm>
#include <memory>

#include "cpu/gemm_support.h"
#include "model/ops/cases/cases.h"

using namespace qgrpo;
using namespace qgrpo::cpu;
using namespace qgrpo::test;

namespace {

struct Problem {
  std::int64_t rows, vocab, width;
  std::vector<float> w, bias, hidden;
  std::unique_ptr<CpuWeight> weight;
  Linear head;
  std::vector<HeadEntry> entries;
  std::vector<ObjectiveEntry> terms;

  explicit Problem(const cases::HeadCase& c) : rows(c.rows), vocab(c.vocab), width(c.width) {
    ThreadPool pool(1);
    w.resize(static_cast<std::size_t>(vocab * width));
    weight =
        CpuWeight::prepare(matrix(random_floats(vocab * width, 1), vocab, width), c.format, pool);
    weight->unpack(w, pool);
    bias = random_floats(vocab, 2);
    hidden = random_floats(rows * width, 3);
    // Logits with a deviation of 1, so that log-probs lie near those of the old and the reference
    // policy, as they do in training.
    for (float& v : hidden) v *= 1.0f / std::sqrt(static_cast<float>(width));
    head.weight = weight.get();
    head.bias = {bias.data(), DType::f32, {vocab}};
    entries = cases::head_entries(c);
    terms = cases::head_terms(c, entries.size());
  }
  Problem(std::int64_t row_count, std::int64_t vocabulary, WeightFormat format)
      : Problem(cases::HeadCase{"", cases::Kind::odd, row_count, 24, vocabulary, 1.0f, format}) {}
  ConstTensorView hidden_view() const { return matrix(hidden, rows, width); }
};

ObjectiveParams on_policy(float beta) {
  ObjectiveParams params;
  params.beta = beta;
  return params;
}

// Log-probability and entropy of an entry in double; hidden in double, so that it can be varied.
struct Reference {
  double logprob;
  double entropy;
};
Reference reference(const Problem& p, const std::vector<double>& w,
                    const std::vector<double>& hidden, const HeadEntry& e, double temperature) {
  std::vector<double> logits;
  for (std::int64_t v = 0; v < p.vocab; ++v) {
    double sum = static_cast<double>(p.bias[static_cast<std::size_t>(v)]);
    for (std::int64_t k = 0; k < p.width; ++k) {
      sum += w[static_cast<std::size_t>(v * p.width + k)] *
             hidden[static_cast<std::size_t>(e.row * p.width + k)];
    }
    logits.push_back(sum / temperature);
  }
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  double weighted = 0.0;
  for (const double x : logits) {
    sum += std::exp(x - max);
    weighted += std::exp(x - max) * x;
  }
  const double lse = max + std::log(sum);
  return {logits[static_cast<std::size_t>(e.target)] - lse, lse - weighted / sum};
}

std::vector<double> widen(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

struct Objective {
  std::vector<HeadResult> results;
  std::vector<TokenObjective<float>> tokens;
  std::vector<float> dhidden, dweight;
};
Objective objective(GemmContext& context, const Problem& p, const ObjectiveParams& params,
                    float temperature, bool train_head) {
  Objective out;
  out.results.resize(p.entries.size());
  out.tokens.resize(p.entries.size());
  GuardedOutput dhidden(p.rows * p.width);
  GuardedOutput dweight(p.vocab * p.width, 0.25f);
  head_objective(context, out.results, out.tokens, dhidden.view(p.rows, p.width),
                 train_head ? dweight.view(p.vocab, p.width) : TensorView{}, p.hidden_view(),
                 p.head, p.entries, p.terms, params, temperature);
  CHECK(dhidden.intact());
  CHECK(dweight.intact());
  out.dhidden = dhidden.values();
  out.dweight = dweight.values();
  return out;
}

// Logits are chains of up to 128 products, 24 of them with an absolute sum of up to 15, and a bias:
// within 28 * 2^-24 * 15 = 2.5e-5 at the worst, a tenth of it in practice; divided by the lowest
// temperature used, 0.5.
constexpr double kLogprobBound = cases::kHeadLogprob.cpu;

}  // namespace

TEST_CASE("head: log-probs and entropies against double") {
  for (const cases::HeadCase& c : cases::head_logprob()) {
    CAPTURE(c.name);
    const float temperature = c.temperature;
    const Problem p(c);
    const std::vector<double> w = widen(p.w);
    const std::vector<double> hidden = widen(p.hidden);
    for_each_context([&](GemmContext& context) {
      std::vector<HeadResult> out(p.entries.size());
      head_logprob(context, out, p.hidden_view(), p.head, p.entries, temperature);
      for (std::size_t i = 0; i < out.size(); ++i) {
        const Reference r = reference(p, w, hidden, p.entries[i], static_cast<double>(temperature));
        CHECK(std::abs(static_cast<double>(out[i].logprob) - r.logprob) <= kLogprobBound);
        CHECK(std::abs(static_cast<double>(out[i].entropy) - r.entropy) <= kLogprobBound);
      }
    });
  }
}

TEST_CASE("head: training, scoring and sampling see the same bits, in any chunk") {
  // 300 rows are three chunks.
  const Problem p(300, 517, WeightFormat::nf4);
  const float temperature = 0.9f;
  std::vector<HeadResult> first;
  for_each_context([&](GemmContext& context) {
    std::vector<HeadResult> out(p.entries.size());
    head_logprob(context, out, p.hidden_view(), p.head, p.entries, temperature);
    if (first.empty()) first = out;
    const Objective o = objective(context, p, on_policy(0.1f), temperature, false);
    for (std::size_t i = 0; i < out.size(); ++i) {
      CHECK(out[i].logprob == first[i].logprob);
      CHECK(out[i].entropy == first[i].entropy);
      CHECK(o.results[i].logprob == first[i].logprob);
      CHECK(o.results[i].entropy == first[i].entropy);
    }
    // As the sampler does it: the logits of one row.
    for (const std::size_t i : {std::size_t{0}, std::size_t{50}, out.size() - 1}) {
      const HeadEntry& e = p.entries[i];
      GuardedOutput logits(p.vocab);
      head_logits(context, logits.view(1, p.vocab),
                  {p.hidden.data() + e.row * p.width, DType::f32, {1, p.width}}, p.head);
      CHECK(logits.intact());
      const std::vector<float> row = logits.values();
      const float inv_t = inverse_temperature(temperature);
      const RowStatistics s = row_logsumexp(context, row, inv_t);
      CHECK(row_logprob(s, row[static_cast<std::size_t>(e.target)], inv_t) == first[i].logprob);
    }
  });
}

TEST_CASE("head: the objective's gradient against differences in double") {
  const Problem p(150, 70, WeightFormat::f32);
  for (const float temperature : {1.0f, 0.7f}) {
    ObjectiveParams params = on_policy(0.2f);
    if (temperature < 1.0f) params.on_policy = false;
    const auto loss = [&](const std::vector<double>& w, const std::vector<double>& hidden,
                          std::int32_t only_row) {
      double sum = 0.0;
      for (std::size_t i = 0; i < p.entries.size(); ++i) {
        if (only_row >= 0 && p.entries[i].row != only_row) continue;
        const ObjectiveEntry& t = p.terms[i];
        const double logprob =
            reference(p, w, hidden, p.entries[i], static_cast<double>(temperature)).logprob;
        if (params.on_policy) {
          // On-policy the ratio is exp(logp - stop(logp)): its derivative is that of logp.
          double slope = 0.0;
          const double kl =
              k3_divergence(static_cast<double>(t.reference_logprob) - logprob, &slope);
          sum += static_cast<double>(t.weight) * (static_cast<double>(params.beta) * kl -
                                                  static_cast<double>(t.advantage) * logprob);
        } else {
          sum += static_cast<double>(t.weight) *
                 token_objective<double>(logprob, static_cast<double>(t.old_logprob),
                                         static_cast<double>(t.reference_logprob),
                                         static_cast<double>(t.advantage), params)
                     .loss;
        }
      }
      return sum;
    };
    Objective first;
    for_each_context([&](GemmContext& context) {
      const Objective o = objective(context, p, params, temperature, true);
      if (first.dhidden.empty()) first = o;
      CHECK(equal_bits(o.dhidden, first.dhidden));
      CHECK(equal_bits(o.dweight, first.dweight));
      for (std::size_t i = 0; i < o.tokens.size(); ++i) {
        const ObjectiveEntry& t = p.terms[i];
        CHECK(o.tokens[i].loss == token_objective<float>(o.results[i].logprob, t.old_logprob,
                                                         t.reference_logprob, t.advantage, params)
                                      .loss);
      }
    });
    // Central differences with h = 1e-5: truncation h^2 times a third derivative of some 10,
    // rounding 1e-16 / h of the loss (100).
    const double h = 1e-5;
    std::vector<double> w = widen(p.w);
    std::vector<double> hidden = widen(p.hidden);
    const auto check = [&](double& parameter, float gradient, float start, std::int32_t row) {
      const double kept = parameter;
      parameter = kept + h;
      const double up = loss(w, hidden, row);
      parameter = kept - h;
      const double down = loss(w, hidden, row);
      parameter = kept;
      const double want = (up - down) / (2.0 * h);
      // In float32 a slope is off by kLogprobBound times e^|d| < 10, and a chain of 70 or 150 terms
      // of up to 1 rounds by 150 * 2^-24 * 20.
      CHECK(std::abs(static_cast<double>(gradient - start) - want) <=
            1e-4 * (1.0 + std::abs(want)));
    };
    for (std::int32_t row = 0; row < p.rows; ++row) {
      for (std::int64_t k = row % 5; k < p.width; k += 7) {
        const auto at = static_cast<std::size_t>(row * p.width + k);
        check(hidden[at], first.dhidden[at], 0.0f, row);
      }
    }
    for (std::size_t at = 0; at < w.size(); at += 97) {
      check(w[at], first.dweight[at], 0.25f, -1);
    }
  }
}

TEST_CASE("head: rows without an entry get a gradient of zero, others do not") {
  const Problem p(40, 33, WeightFormat::bf16);
  ThreadPool pool(2);
  GemmContext context(pool);
  const Objective o = objective(context, p, on_policy(0.0f), 1.0f, false);
  for (std::int64_t row = 0; row < p.rows; ++row) {
    const bool has = std::any_of(p.entries.begin(), p.entries.end(),
                                 [&](const HeadEntry& e) { return e.row == row; });
    for (std::int64_t k = 0; k < p.width; ++k) {
      const float d = o.dhidden[static_cast<std::size_t>(row * p.width + k)];
      CHECK((d != 0.0f) == has);
    }
  }
}

TEST_CASE("head: a logit that is not a number is not hidden by the softmax") {
  ThreadPool pool(1);
  for (const Isa isa : supported_isas()) {
    const GemmContext context(pool, isa);
    std::vector<float> logits = random_floats(1500, 1);
    CHECK(std::isfinite(row_logsumexp(context, logits, 1.0f).log_sum_exp));
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
          -std::numeric_limits<float>::infinity()}) {
      for (const std::size_t at : {std::size_t{0}, std::size_t{1100}, std::size_t{1499}}) {
        std::vector<float> broken = logits;
        broken[at] = bad;
        const RowStatistics s = row_logsumexp(context, broken, 1.0f);
        CHECK(std::isnan(s.log_sum_exp));
        CHECK(std::isnan(s.entropy));
      }
    }
    // Far apart, all equal, and far from 0: still right.
    const std::vector<float> spread = {1000.0f, -1000.0f, 999.0f};
    CHECK(row_logsumexp(context, spread, 1.0f).log_sum_exp ==
          doctest::Approx(1000.0 + std::log1p(std::exp(-1.0))).epsilon(1e-9));
    const std::vector<float> equal(777, -40.0f);
    CHECK(row_logsumexp(context, equal, 1.0f).entropy ==
          doctest::Approx(std::log(777.0)).epsilon(1e-9));
  }
}

TEST_CASE("head: entries that contradict the shapes are refused") {
  const Problem p(5, 33, WeightFormat::f32);
  ThreadPool pool(1);
  GemmContext context(pool);
  std::vector<HeadResult> out(1);
  const auto run = [&](const HeadEntry& e, float temperature) {
    head_logprob(context, out, p.hidden_view(), p.head, {&e, 1}, temperature);
  };
  CHECK_NOTHROW(run({4, 32}, 1.0f));
  CHECK_THROWS_AS(run({5, 0}, 1.0f), Error);
  CHECK_THROWS_AS(run({-1, 0}, 1.0f), Error);
  CHECK_THROWS_AS(run({0, 33}, 1.0f), Error);
  CHECK_THROWS_AS(run({0, -1}, 1.0f), Error);
  CHECK_THROWS_AS(run({0, 0}, 0.0f), Error);
  const std::vector<HeadEntry> unsorted = {{1, 0}, {0, 0}};
  std::vector<HeadResult> two(2);
  CHECK_THROWS_AS(head_logprob(context, two, p.hidden_view(), p.head, unsorted, 1.0f), Error);
  CHECK_THROWS_AS(head_logprob(context, out, p.hidden_view(), p.head, unsorted, 1.0f), Error);
}
