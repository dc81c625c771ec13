#include <algorithm>

#include "cuda/device_support.h"
#include "model/io/safetensors.h"
#include "support/vectors.h"

namespace qgrpo::test {
namespace {

struct Problem {
  std::int64_t rows, width, vocab;
  float temperature;
  std::vector<float> w, hidden;
  std::vector<HeadEntry> entries;
  std::vector<ObjectiveEntry> terms;

  explicit Problem(const cases::HeadCase& c)
      : rows(c.rows),
        width(c.width),
        vocab(c.vocab),
        temperature(c.temperature),
        w(bf16_values(vocab * width, 70)),
        // Logits with a deviation of 1, so that the ratios to the old policy are as in training.
        hidden(bf16_values(rows * width, 71, 1.0f / std::sqrt(static_cast<float>(width)))),
        entries(cases::head_entries(c)),
        terms(cases::head_terms(c, entries.size())) {}
  Problem(std::int64_t row_count, std::int64_t hidden_size, std::int64_t vocabulary, float t)
      : Problem(of_sizes(row_count, hidden_size, vocabulary, t)) {}

 private:
  static cases::HeadCase of_sizes(std::int64_t rows, std::int64_t width, std::int64_t vocab,
                                  float temperature) {
    cases::HeadCase c{"", cases::Kind::odd, rows, width, vocab, temperature};
    c.several = 5;
    return c;
  }
};

struct Result {
  std::vector<HeadResult> results;
  std::vector<TokenObjective<float>> tokens;
  std::vector<float> dhidden, dweight;
};
Result objective(Backend& backend, const Problem& p, const ObjectiveParams& params, bool train_head,
                 int passes = 1) {
  const auto weight =
      backend.prepare({p.w.data(), DType::f32, {p.vocab, p.width}}, WeightFormat::bf16);
  Linear head;
  head.weight = weight.get();
  const OnBackend hidden(backend, p.hidden, {p.rows, p.width});
  const OnBackend dhidden(backend, std::vector<float>(p.hidden.size(), 7.0f), {p.rows, p.width});
  const OnBackend dweight(backend,
                          std::vector<float>(train_head ? p.w.size() : std::size_t{1}, 0.25f),
                          train_head ? Shape{p.vocab, p.width} : Shape{1}, DType::f32);
  Result out;
  out.results.resize(p.entries.size());
  out.tokens.resize(p.entries.size());
  for (int i = 0; i < passes; ++i) {
    backend.train().head_objective(out.results, out.tokens, dhidden,
                                   train_head ? dweight.view() : TensorView{}, hidden, head,
                                   p.entries, p.terms, params, p.temperature);
  }
  out.dhidden = dhidden.values();
  out.dweight = dweight.values();
  return out;
}

// The gradient in double, and what rounding d loss / d logits to bf16 can change in it: 2^-8 of
// every product.
struct Exact {
  std::vector<double> dhidden, dhidden_slack, dweight, dweight_slack;
};
Exact exact(const Problem& p, const ObjectiveParams& params) {
  Exact out;
  out.dhidden.resize(p.hidden.size());
  out.dhidden_slack.resize(p.hidden.size());
  out.dweight.resize(p.w.size());
  out.dweight_slack.resize(p.w.size());
  const auto at = [](std::int64_t row, std::int64_t width, std::int64_t i) {
    return static_cast<std::size_t>(row * width + i);
  };
  std::vector<double> dlogits(static_cast<std::size_t>(p.vocab));
  for (std::size_t begin = 0, end = 0; begin < p.entries.size(); begin = end) {
    const std::int64_t row = p.entries[begin].row;
    while (end < p.entries.size() && p.entries[end].row == row) ++end;
    double sum = 0.0;
    std::vector<double> z;
    for (std::int64_t v = 0; v < p.vocab; ++v) {
      double logit = 0.0;
      for (std::int64_t k = 0; k < p.width; ++k) {
        logit += static_cast<double>(p.w[at(v, p.width, k)]) *
                 static_cast<double>(p.hidden[at(row, p.width, k)]);
      }
      z.push_back(logit / static_cast<double>(p.temperature));
      sum += std::exp(z.back());
    }
    double total = 0.0;
    std::fill(dlogits.begin(), dlogits.end(), 0.0);
    for (std::size_t e = begin; e < end; ++e) {
      const ObjectiveEntry& term = p.terms[e];
      const auto target = static_cast<std::size_t>(p.entries[e].target);
      const double c =
          static_cast<double>(term.weight) *
          token_objective<double>(z[target] - std::log(sum), static_cast<double>(term.old_logprob),
                                  static_cast<double>(term.reference_logprob),
                                  static_cast<double>(term.advantage), params)
              .dlogprob;
      dlogits[target] += c;
      total += c;
    }
    for (std::int64_t v = 0; v < p.vocab; ++v) {
      const auto i = static_cast<std::size_t>(v);
      const double d =
          (dlogits[i] - total * std::exp(z[i]) / sum) / static_cast<double>(p.temperature);
      for (std::int64_t k = 0; k < p.width; ++k) {
        const double to_hidden = d * static_cast<double>(p.w[at(v, p.width, k)]);
        const double to_weight = d * static_cast<double>(p.hidden[at(row, p.width, k)]);
        out.dhidden[at(row, p.width, k)] += to_hidden;
        out.dhidden_slack[at(row, p.width, k)] += 0x1p-8 * std::abs(to_hidden);
        out.dweight[at(v, p.width, k)] += to_weight;
        out.dweight_slack[at(v, p.width, k)] += 0x1p-8 * std::abs(to_weight);
      }
    }
  }
  return out;
}

// The largest share of the allowed difference that is used: `slack` and, where the result is bf16,
// its own rounding; float32 sums and exponentials add a hundredth of the slack.
double used(const std::vector<float>& values, const std::vector<double>& exact,
            const std::vector<double>& slack, double rounding, double offset) {
  REQUIRE(values.size() == exact.size());
  double worst = 0.0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const double allowed = 1.05 * slack[i] + rounding * std::abs(exact[i]) + 1e-6;
    const double share = std::abs(static_cast<double>(values[i]) - offset - exact[i]) / allowed;
    if (!(share <= worst)) worst = std::isnan(share) ? INFINITY : share;
  }
  return worst;
}

ObjectiveParams make_params(ObjectiveKind kind, bool on_policy, float beta) {
  ObjectiveParams params;
  params.kind = kind;
  params.on_policy = on_policy;
  params.beta = beta;
  return params;
}

bool same_results(const Result& a, const Result& b) {
  const auto equal = [](const TokenObjective<float>& x, const TokenObjective<float>& y) {
    return x.loss == y.loss && x.dlogprob == y.dlogprob && x.kl == y.kl && x.ratio == y.ratio;
  };
  return a.dhidden == b.dhidden && a.dweight == b.dweight &&
         std::memcmp(a.results.data(), b.results.data(), a.results.size() * sizeof(HeadResult)) ==
             0 &&
         std::equal(a.tokens.begin(), a.tokens.end(), b.tokens.begin(), b.tokens.end(), equal);
}

TEST_CASE("cuda head_objective: values as the CPU's, gradients as in double") {
  const Backends b = both_backends();
  if (!b) return;
  for (const cases::HeadCase& c : cases::head_objective()) {
    CAPTURE(c.name);
    const Problem p(c);
    const Result device = objective(*b.cuda, p, c.params, c.train_head);
    const Result host = objective(*b.cpu, p, c.params, c.train_head);
    for (std::size_t i = 0; i < p.entries.size(); ++i) {
      // Float32 sums of products in another order.
      REQUIRE(std::abs(device.results[i].logprob - host.results[i].logprob) <
              cases::kHeadLogprob.cuda);
      REQUIRE(std::abs(device.results[i].entropy - host.results[i].entropy) <
              cases::kHeadLogprob.cuda);
      const TokenObjective<float>&x = device.tokens[i], &y = host.tokens[i];
      const double bound = cases::kHeadToken.cuda;
      REQUIRE(std::abs(x.loss - y.loss) < bound);
      REQUIRE(std::abs(x.dlogprob - y.dlogprob) < bound);
      REQUIRE(std::abs(x.kl - y.kl) < bound);
      REQUIRE(std::abs(x.ratio - y.ratio) < bound);
      REQUIRE(x.clipped_low == y.clipped_low);
      REQUIRE(x.clipped_high == y.clipped_high);
    }
    const Exact e = exact(p, c.params);
    CHECK(used(device.dhidden, e.dhidden, e.dhidden_slack, kRounding, 0.0) <
          cases::kHeadGradient.cuda);
    if (c.train_head) CHECK(used(device.dweight, e.dweight, e.dweight_slack, 0.0, 0.25) < 1.0);
    // The bound is one that errors would exceed: the CPU's gradient lies within it, a gradient with
    // 10 % more does not.
    CHECK(used(host.dhidden, e.dhidden, e.dhidden_slack, kRounding, 0.0) < 1.0);
    std::vector<float> more = host.dhidden;
    for (float& x : more) x *= 1.1f;
    CHECK(used(more, e.dhidden, e.dhidden_slack, kRounding, 0.0) > 1.0);
  }
}

TEST_CASE("cuda head_objective: every kind of objective, and TRL's tokens") {
  const Backends b = both_backends();
  if (!b) return;
  const Problem p(14, 16, 60, 1.0f);
  for (const ObjectiveKind kind :
       {ObjectiveKind::negative_log_likelihood, ObjectiveKind::grpo_clip, ObjectiveKind::cispo,
        ObjectiveKind::sapo, ObjectiveKind::policy_gradient}) {
    for (const bool on_policy : {true, false}) {
      ObjectiveParams params = make_params(kind, on_policy, 0.05f);
      if (kind == ObjectiveKind::cispo) params.epsilon_high = 2.0f;
      CAPTURE(static_cast<int>(kind));
      const Result device = objective(*b.cuda, p, params, false);
      const Exact e = exact(p, params);
      CHECK(used(device.dhidden, e.dhidden, e.dhidden_slack, kRounding, 0.0) < 1.0);
      const Result host = objective(*b.cpu, p, params, false);
      for (std::size_t i = 0; i < p.entries.size(); ++i) {
        CHECK(std::abs(device.tokens[i].loss - host.tokens[i].loss) < 2e-3f);
      }
    }
  }
}

TEST_CASE("cuda head_objective: the golden per-token log-probs of GRPO") {
  const Backends b = both_backends();
  if (!b) return;
  // A vocabulary of two whose first logit is h and whose second is 0 has log-prob -log(1 + e^-h) of
  // token 0: h is chosen so that it is the golden value, to bf16's precision; the old and the
  // reference log-probs are shifted alike.
  const io::SafetensorsFile file(vector_path("grpo/inputs.safetensors"));
  const auto logprob = io::to_float(file.tensor("per_token_logps"));
  const auto old = io::to_float(file.tensor("old_per_token_logps"));
  const auto reference = io::to_float(file.tensor("ref_per_token_logps"));
  const std::int64_t width = 8;
  Problem p(static_cast<std::int64_t>(logprob.size()), width, 2, 1.0f);
  p.entries.clear();
  p.terms.clear();
  std::fill(p.w.begin(), p.w.end(), 0.0f);
  std::fill(p.hidden.begin(), p.hidden.end(), 0.0f);
  p.w[0] = 1.0f;
  std::vector<double> exact_logprob;
  Rng rng(73, RngStream::test);
  for (std::size_t i = 0; i < logprob.size(); ++i) {
    const double target = std::min(static_cast<double>(logprob[i]), -1e-3);
    const float h = rounded(static_cast<float>(-std::log(std::expm1(-target))));
    p.hidden[i * static_cast<std::size_t>(width)] = h;
    exact_logprob.push_back(-std::log1p(std::exp(-static_cast<double>(h))));
    const auto shift = static_cast<float>(exact_logprob.back() - static_cast<double>(logprob[i]));
    p.entries.push_back({static_cast<std::int32_t>(i), 0});
    p.terms.push_back({1.0f, rng.normal(), old[i] + shift, reference[i] + shift});
  }
  ObjectiveParams params = make_params(ObjectiveKind::grpo_clip, false, 0.04f);
  const Result device = objective(*b.cuda, p, params, false);
  for (std::size_t i = 0; i < logprob.size(); ++i) {
    const ObjectiveEntry& t = p.terms[i];
    const auto expected = token_objective<double>(
        exact_logprob[i], static_cast<double>(t.old_logprob),
        static_cast<double>(t.reference_logprob), static_cast<double>(t.advantage), params);
    // Float32 log-probs within 1e-6, ratios of up to e^3.
    CHECK(std::abs(static_cast<double>(device.tokens[i].loss) - expected.loss) < 1e-4);
    CHECK(std::abs(static_cast<double>(device.tokens[i].dlogprob) - expected.dlogprob) < 1e-4);
    CHECK(std::abs(static_cast<double>(device.tokens[i].kl) - expected.kl) < 1e-4);
  }
}

TEST_CASE("cuda head_objective: the bits of head_logprob; repeatable; += into dweight") {
  const Backends b = both_backends();
  if (!b) return;
  const Problem p(30, 64, 1003, 0.8f);
  const ObjectiveParams params = make_params(ObjectiveKind::grpo_clip, false, 0.04f);
  const Result once = objective(*b.cuda, p, params, true);
  CHECK(same_results(once, objective(*b.cuda, p, params, true)));
  const Result twice = objective(*b.cuda, p, params, true, 2);
  CHECK(twice.dhidden == once.dhidden);
  for (std::size_t i = 0; i < once.dweight.size(); ++i) {
    REQUIRE(twice.dweight[i] - 0.25f ==
            doctest::Approx(2 * (once.dweight[i] - 0.25f)).epsilon(1e-4));
  }
  const auto weight =
      b.cuda->prepare({p.w.data(), DType::f32, {p.vocab, p.width}}, WeightFormat::bf16);
  Linear head;
  head.weight = weight.get();
  const OnBackend hidden(*b.cuda, p.hidden, {p.rows, p.width});
  std::vector<HeadResult> results(p.entries.size());
  b.cuda->train().head_logprob(results, hidden, head, p.entries, p.temperature);
  CHECK(std::memcmp(results.data(), once.results.data(), results.size() * sizeof(HeadResult)) == 0);

  // The other rows of a chunk change nothing: the first rows alone.
  Problem few = p;
  few.rows = 3;
  few.hidden.resize(static_cast<std::size_t>(3 * p.width));
  while (few.entries.back().row >= 3) {
    few.entries.pop_back();
    few.terms.pop_back();
  }
  const Result alone = objective(*b.cuda, few, params, false);
  CHECK(std::equal(alone.dhidden.begin(), alone.dhidden.end(), once.dhidden.begin()));
  for (std::size_t i = 0; i < few.entries.size(); ++i) {
    CHECK(alone.results[i].logprob == once.results[i].logprob);
  }
}

TEST_CASE("cuda head_objective: no entries, and what is refused") {
  const Backends b = both_backends();
  if (!b) return;
  Problem p(4, 16, 30, 1.0f);
  const ObjectiveParams params = make_params(ObjectiveKind::grpo_clip, true, 0.0f);
  Problem none = p;
  none.entries.clear();
  none.terms.clear();
  const Result empty = objective(*b.cuda, none, params, true);
  CHECK(std::all_of(empty.dhidden.begin(), empty.dhidden.end(), [](float x) { return x == 0.0f; }));
  CHECK(
      std::all_of(empty.dweight.begin(), empty.dweight.end(), [](float x) { return x == 0.25f; }));
  Problem bad = p;
  bad.entries[0].target = 30;
  CHECK_THROWS_AS(objective(*b.cuda, bad, params, false), Error);
  bad = p;
  bad.entries.back().row = 4;
  CHECK_THROWS_AS(objective(*b.cuda, bad, params, false), Error);
  bad = p;
  std::swap(bad.entries.front(), bad.entries.back());
  CHECK_THROWS_AS(objective(*b.cuda, bad, params, false), Error);
  bad = p;
  bad.temperature = 0.0f;
  CHECK_THROWS_AS(objective(*b.cuda, bad, params, false), Error);
  bad = p;
  bad.terms.pop_back();
  CHECK_THROWS_AS(objective(*b.cuda, bad, params, false), Error);
}

}  // namespace
}  // namespace qgrpo::test
