// The backward of every reference operator against central differences in double.

#include <doctest/doctest.h>

#include <functional>

#include "cpu/op_support.h"
#include "cpu/reference/attention.h"
#include "cpu/reference/embedding.h"
#include "cpu/reference/head.h"
#include "cpu/reference/linear.h"
#include "cpu/reference/paged_attention.h"
#include "cpu/reference/rmsnorm.h"
#include "cpu/reference/rope.h"
#include "cpu/reference/swiglu.h"

using namespace qgrpo;
using namespace qgrpo::test;
namespace ref = qgrpo::cpu::reference;

namespace {

using Vec = std::vector<double>;

double dot(const Vec& a, const Vec& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// The largest difference of `gradient` from (f(x + h) - f(x - h)) / 2h over x's elements (every
// `step`-th), relative to the largest element. With h = 1e-5 the truncation is about
// h^2 f''' / 6 = 1e-11 f''' and the rounding 1e-16 f / h = 1e-11 f: with f''' and f of 10 to 1000
// times the gradient, a correct gradient stays below 1e-7, while a wrong one misses by its own
// size.
double gradient_error(Vec& x, const Vec& gradient, const std::function<double()>& f,
                      std::size_t step = 1) {
  constexpr double h = 1e-5;
  double scale = 0;
  for (const double g : gradient) scale = std::max(scale, std::abs(g));
  REQUIRE(scale > 0);
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); i += step) {
    const double x0 = x[i];
    x[i] = x0 + h;
    const double up = f();
    x[i] = x0 - h;
    const double down = f();
    x[i] = x0;
    worst = std::max(worst, std::abs((up - down) / (2 * h) - gradient[i]) / scale);
  }
  return worst;
}
constexpr double kTolerance = 1e-7;

Vec normals(std::size_t n, std::uint32_t seed, double scale = 1.0) {
  return random_values<double>(n, seed, scale);
}

}  // namespace

TEST_CASE("the check itself fails for a gradient that is wrong by one part in a million") {
  Vec x = normals(5, 1);
  const auto f = [&] { return dot(x, x); };
  Vec gradient = x;
  for (double& g : gradient) g *= 2;
  CHECK(gradient_error(x, gradient, f) < kTolerance);
  for (double& g : gradient) g *= 1 + 1e-6;
  CHECK(gradient_error(x, gradient, f) > kTolerance);
}

TEST_CASE("embedding: the gradient of a table row is the sum over its tokens") {
  const std::vector<std::int32_t> tokens{2, 0, 2, 3};
  Vec table = normals(4 * 3, 1), y(12), grad(12, 0.0);
  const Vec dy = normals(12, 2);
  const auto f = [&] {
    ref::embedding_forward(y.data(), table.data(), tokens, 3);
    return dot(dy, y);
  };
  ref::scatter_add_rows(grad.data(), dy.data(), tokens, 3);
  CHECK(gradient_error(table, grad, f) < kTolerance);
}

TEST_CASE("rmsnorm") {
  const std::int64_t rows = 3, n = 7;
  Vec x = normals(21, 1), w = normals(7, 2), y(21), rstd(3);
  const Vec dy = normals(21, 3);
  const auto f = [&] {
    ref::rmsnorm_forward(y.data(), rstd.data(), x.data(), w.data(), rows, n, 1e-6);
    return dot(dy, y);
  };
  f();
  Vec dx(21, 0.5), dw(7, 0.25);  // += onto what is there
  ref::rmsnorm_backward(dx.data(), dw.data(), dy.data(), x.data(), w.data(), rstd.data(), rows, n);
  for (double& g : dx) g -= 0.5;
  for (double& g : dw) g -= 0.25;
  CHECK(gradient_error(x, dx, f) < kTolerance);
  CHECK(gradient_error(w, dw, f) < kTolerance);
}

TEST_CASE("rope") {
  const std::vector<std::int32_t> positions{0, 3, 1000};
  const Vec x0 = normals(3 * 2 * 8, 1), dy = normals(48, 2);
  Vec x = x0;
  RopeFrequencies rope = rope_frequencies(8, 1e4);
  rope.scale = 1.3;
  const auto f = [&] {
    Vec y = x;
    ref::rope(y.data(), 2, rope, positions, 1.0);
    return dot(dy, y);
  };
  Vec dx = dy;
  ref::rope(dx.data(), 2, rope, positions, -1.0);
  CHECK(gradient_error(x, dx, f) < kTolerance);
}

TEST_CASE("swiglu") {
  Vec gate = normals(20, 1, 3.0), up = normals(20, 2), y(20), dgate(20), dup(20);
  const Vec dy = normals(20, 3);
  const auto f = [&] {
    ref::swiglu_forward(y.data(), gate.data(), up.data(), 20);
    return dot(dy, y);
  };
  ref::swiglu_backward(dgate.data(), dup.data(), dy.data(), gate.data(), up.data(), 20);
  CHECK(gradient_error(gate, dgate, f) < kTolerance);
  CHECK(gradient_error(up, dup, f) < kTolerance);
}

TEST_CASE("linear with bias and two adapters, a run without one") {
  const std::int64_t tokens = 6, n = 5, k = 7;
  const std::vector<AdapterRun> runs{{0, 2, 1}, {2, 1, -1}, {3, 3, 0}};
  Vec x = normals(42, 1), w = normals(35, 2), bias = normals(5, 3);
  Vec a0 = normals(3 * 7, 4), b0 = normals(5 * 3, 5), a1 = normals(2 * 7, 6), b1 = normals(10, 7);
  Vec da0(21), db0(15), da1(14), db1(10), dw(35), dbias(5), dx(42, 2.0), y(30);
  const Vec dy = normals(30, 8);
  const std::vector<ref::Lora<double>> adapters{
      {a0.data(), b0.data(), 3, 0.5, da0.data(), db0.data()},
      {a1.data(), b1.data(), 2, 2.0, da1.data(), db1.data()}};
  const auto f = [&] {
    ref::linear_forward<double>(y.data(), x.data(), w.data(), bias.data(), adapters, runs, n, k,
                                false);
    return dot(dy, y);
  };
  ref::linear_backward<double>(dx.data(), true, dw.data(), dbias.data(), dy.data(), x.data(),
                               w.data(), adapters, runs, n, k);
  for (double& g : dx) g -= 2.0;
  CHECK(gradient_error(x, dx, f) < kTolerance);
  CHECK(gradient_error(w, dw, f) < kTolerance);
  CHECK(gradient_error(bias, dbias, f) < kTolerance);
  CHECK(gradient_error(a0, da0, f) < kTolerance);
  CHECK(gradient_error(b0, db0, f) < kTolerance);
  CHECK(gradient_error(a1, da1, f) < kTolerance);
  CHECK(gradient_error(b1, db1, f) < kTolerance);
  f();
  Vec twice = y;
  ref::linear_forward<double>(twice.data(), x.data(), w.data(), bias.data(), adapters, runs, n, k,
                              true);
  for (std::size_t i = 0; i < y.size(); ++i) CHECK(twice[i] == 2 * y[i]);
  CHECK(tokens * n == static_cast<std::int64_t>(y.size()));
}

TEST_CASE("attention over prompts with children, grouped heads") {
  const std::vector<cases::AttentionCase> cases{
      {"head size 16", {4, 2, 16}, {{4, -1}, {3, 0}, {1, 0}, {2, 0}, {3, -1}, {2, 4}}},
      {"head size 64", {2, 1, 64}, {{3, -1}, {2, 0}, {2, 0}}},
      {"head size 128", {2, 2, 128}, {{2, -1}, {3, 0}, {2, 0}}},
      {"children apart from the prompt", {3, 1, 4}, {{3, -1}, {2, -1}, {2, 0}, {3, 1}, {2, 0}}},
  };
  for (const cases::AttentionCase& c : cases) {
    CAPTURE(c.name);
    const auto segments = cases::make_segments(c);
    const auto tokens = static_cast<std::size_t>(segments.back().end());
    const std::size_t nq = tokens * static_cast<std::size_t>(c.shape.heads * c.shape.head_dim);
    const std::size_t nkv = tokens * static_cast<std::size_t>(c.shape.kv_heads * c.shape.head_dim);
    Vec q = normals(nq, 1, 2.0), k = normals(nkv, 2), v = normals(nkv, 3);
    const Vec d_o = normals(nq, 4);
    Vec o(nq), lse(tokens * static_cast<std::size_t>(c.shape.heads)), dq(nq), dk(nkv), dv(nkv);
    const auto f = [&] {
      ref::attention_forward(o.data(), lse.data(), q.data(), k.data(), v.data(), c.shape, segments);
      return dot(d_o, o);
    };
    f();
    ref::attention_backward(dq.data(), dk.data(), dv.data(), d_o.data(), q.data(), k.data(),
                            v.data(), o.data(), lse.data(), c.shape, segments);
    const std::size_t step = nq > 1000 ? 7 : 1;
    CHECK(gradient_error(q, dq, f, step) < kTolerance);
    CHECK(gradient_error(k, dk, f, step) < kTolerance);
    CHECK(gradient_error(v, dv, f, step) < kTolerance);
  }
}

TEST_CASE("a child sees its parent's and its own tokens: one sequence gives the same") {
  const cases::AttentionCase parts{"", {2, 1, 16}, {{5, -1}, {4, 0}}};
  const cases::AttentionCase whole{"", {2, 1, 16}, {{9, -1}}};
  const Vec q = normals(9 * 32, 1), k = normals(9 * 16, 2), v = normals(9 * 16, 3);
  Vec a(9 * 32), b(9 * 32), lse(18);
  ref::attention_forward(a.data(), lse.data(), q.data(), k.data(), v.data(), parts.shape,
                         cases::make_segments(parts));
  ref::attention_forward(b.data(), lse.data(), q.data(), k.data(), v.data(), whole.shape,
                         cases::make_segments(whole));
  CHECK(a == b);
}

TEST_CASE("head: log-probability, entropy and the objective's gradient, several entries a row") {
  const std::int64_t rows = 3, vocab = 11, width = 5;
  Vec hidden = normals(15, 1), w = normals(55, 2), dhidden(15), dw(55);
  const std::vector<HeadEntry> entries{{0, 3}, {0, 7}, {0, 3}, {2, 10}};  // row 1 has none
  const std::vector<ObjectiveEntry> terms{{0.5f, 1.5f, -2.0f, -1.0f},
                                          {0.25f, -0.7f, -2.2f, -3.0f},
                                          {1.0f, 0.1f, -1.9f, -2.0f},
                                          {0.125f, -1.0f, -2.5f, -2.0f}};
  std::vector<ref::LogProbability<double>> out(4);
  std::vector<TokenObjective<double>> token(4);
  for (const bool nll : {true, false}) {
    ObjectiveParams params;
    params.kind = nll ? ObjectiveKind::negative_log_likelihood : ObjectiveKind::grpo_clip;
    params.on_policy = false;
    params.beta = 0.3f;
    params.epsilon_low = params.epsilon_high = 5.0f;  // the clip's corners have no derivative
    std::fill(dw.begin(), dw.end(), 0.0);
    ref::head_objective<double>(out, token, dhidden.data(), dw.data(), hidden.data(), w.data(),
                                rows, vocab, width, entries, terms, params, 0.7);
    const auto f = [&] {
      return ref::head_objective<double>(out, token, nullptr, nullptr, hidden.data(), w.data(),
                                         rows, vocab, width, entries, terms, params, 0.7);
    };
    CHECK(gradient_error(hidden, dhidden, f) < kTolerance);
    CHECK(gradient_error(w, dw, f) < kTolerance);
    for (int k = 0; k < 5; ++k) CHECK(dhidden[static_cast<std::size_t>(5 + k)] == 0.0);
    f();
    double sum = 0, entropy = 0;
    for (std::int32_t n = 0; n < vocab; ++n) {
      const Vec z = ref::scaled_logits(hidden.data(), w.data(), vocab, width, 0.7);
      const double lp = ref::log_probability<double>(z, n).logprob;
      sum += std::exp(lp);
      entropy -= std::exp(lp) * lp;
    }
    CHECK(sum == doctest::Approx(1.0).epsilon(1e-12));
    CHECK(out[0].entropy == doctest::Approx(entropy).epsilon(1e-12));
  }
}
