#include <doctest/doctest.h>

#include "cpu/elementwise.h"
#include "cpu/embedding.h"
#include "cpu/op_cases.h"
#include "cpu/reference/embedding.h"
#include "cpu/reference/rmsnorm.h"
#include "cpu/reference/rope.h"
#include "cpu/reference/swiglu.h"
#include "cpu/rmsnorm.h"
#include "cpu/rope.h"
#include "cpu/swiglu.h"

using namespace qgrpo;
using namespace qgrpo::test;
namespace ref = qgrpo::cpu::reference;

namespace {

// Runs `op(context)` -> outputs in every context: the same bits everywhere; returns them.
template <typename Op>
std::vector<std::vector<float>> same_everywhere(Op&& op) {
  const auto contexts = all_contexts();
  const std::vector<std::vector<float>> first = op(contexts[0]->context);
  for (const auto& other : contexts) {
    CAPTURE(other->name);
    const std::vector<std::vector<float>> again = op(other->context);
    for (std::size_t i = 0; i < first.size(); ++i) CHECK(same_bits(again[i], first[i]));
  }
  return first;
}

template <typename... G>
std::vector<std::vector<float>> outputs(const G&... guarded) {
  CHECK((guarded.intact() && ...));
  return {guarded.values()...};
}

}  // namespace

TEST_CASE("rmsnorm forward and backward") {
  for (const RowCase& c : kRowCases) {
    CAPTURE(c.rows);
    CAPTURE(c.width);
    const auto n = static_cast<std::size_t>(c.rows * c.width);
    const auto x = random_values(n, 1), dy = random_values(n, 2), dx0 = random_values(n, 3);
    const auto weight = random_values(static_cast<std::size_t>(c.width), 4);
    const auto dw0 = random_values(static_cast<std::size_t>(c.width), 5);
    const Shape shape{c.rows, c.width};
    const auto got = same_everywhere([&](cpu::LayerContext& context) {
      Guarded y(n), rstd(static_cast<std::size_t>(c.rows)), dx(dx0), dw(dw0);
      cpu::rmsnorm_forward(context, y.view(shape), rstd.view({c.rows}), view(x, shape),
                           view(weight, {c.width}), 1e-6f);
      cpu::rmsnorm_backward(context, dx.view(shape), dw.view({c.width}), view(dy, shape),
                            view(x, shape), view(weight, {c.width}), rstd.view({c.rows}));
      return outputs(y, rstd, dx, dw);
    });
    std::vector<double> y(n), rstd(static_cast<std::size_t>(c.rows)), dx = to_double(dx0),
                                                                      dw = to_double(dw0);
    const auto xd = to_double(x), dyd = to_double(dy), wd = to_double(weight);
    ref::rmsnorm_forward(y.data(), rstd.data(), xd.data(), wd.data(), c.rows, c.width,
                         static_cast<double>(1e-6f));
    ref::rmsnorm_backward(dx.data(), dw.data(), dyd.data(), xd.data(), wd.data(), rstd.data(),
                          c.rows, c.width);
    // A few roundings of 6e-8 each on values of up to ~10; the sum of squares in 64 lanes. One
    // element alone (width 1) has a gradient of 0 by cancellation, of terms of rstd * dy.
    CHECK(difference(got[0], y) < 1e-6);
    CHECK(difference(got[1], rstd) < 1e-6);
    const double cancelled = *std::max_element(rstd.begin(), rstd.end());
    CHECK(difference(got[2], dx) < 2e-6 * std::max(1.0, cancelled));
    // Up to 300 rows are summed one by one.
    CHECK(difference(got[3], dw) < 5e-6);
  }
}

TEST_CASE("a row's norm does not depend on the other rows; a frozen weight gets no gradient") {
  const auto x = random_values(10 * 70, 1), w = random_values(70, 2);
  TestContext one(2, cpu::active_isa());
  Guarded all(700), stats(10), single(70), stat(1), dx(700, 0.0f);
  cpu::rmsnorm_forward(one.context, all.view({10, 70}), stats.view({10}), view(x, {10, 70}),
                       view(w, {70}), 1e-5f);
  const std::vector<float> row(x.begin() + 420, x.begin() + 490);
  cpu::rmsnorm_forward(one.context, single.view({1, 70}), stat.view({1}), view(row, {1, 70}),
                       view(w, {70}), 1e-5f);
  const std::vector<float> y = all.values();
  CHECK(same_bits(single.values(), {y.begin() + 420, y.begin() + 490}));
  cpu::rmsnorm_backward(one.context, dx.view({10, 70}), {}, view(x, {10, 70}), view(x, {10, 70}),
                        view(w, {70}), stats.view({10}));
  CHECK(difference(dx.values(), std::vector<float>(700)) > 0.1);
}

TEST_CASE("rope turns by the position, and back again") {
  for (const int dim : {2, 16, 24, 64, 128}) {
    CAPTURE(dim);
    const std::int64_t heads = 3;
    const std::vector<std::int32_t> positions{0, 1, 2, 700, 3, 32767, 5};
    const auto rows = static_cast<std::int64_t>(positions.size());
    const auto x = random_values(static_cast<std::size_t>(rows * heads * dim), 1);
    const Shape shape{rows, heads * dim};
    const auto got = same_everywhere([&](cpu::LayerContext& context) {
      Guarded forward(x), back(x);
      cpu::rope(context, forward.view(shape), dim, 1e6, positions, 1.0f);
      cpu::rope(context, back.view(shape), dim, 1e6, positions, -1.0f);
      Guarded both(forward.values());
      cpu::rope(context, both.view(shape), dim, 1e6, positions, -1.0f);
      return outputs(forward, back, both);
    });
    auto forward = to_double(x), back = to_double(x);
    ref::rope(forward.data(), heads, dim, 1e6, positions, 1.0);
    ref::rope(back.data(), heads, dim, 1e6, positions, -1.0);
    // Cosines and sines rounded to float32, two products and a sum of values up to ~4.
    CHECK(difference(got[0], forward) < 5e-7);
    CHECK(difference(got[1], back) < 5e-7);
    CHECK(difference(got[2], x) < 1e-6);
    CHECK(difference(forward, x) > 0.1);
  }
}

TEST_CASE("swiglu, add, copy, zero; aliasing as the interface allows") {
  for (const RowCase& c : kRowCases) {
    CAPTURE(c.width);
    const auto n = static_cast<std::size_t>(c.rows * c.width);
    auto gate = random_values(n, 1, 3.0);
    const auto up = random_values(n, 2), dy = random_values(n, 3);
    gate[0] = -200.0f;  // exp(-gate) overflows in a plain formula
    if (n > 1) gate[n - 1] = 200.0f;
    const Shape shape{c.rows, c.width};
    const auto got = same_everywhere([&](cpu::LayerContext& context) {
      Guarded y(gate), dgate(dy), dup(up), sum(up), same(n), none(n);
      cpu::swiglu_forward(context, y.view(shape), y.view(shape), view(up, shape));
      cpu::swiglu_backward(context, dgate.view(shape), dup.view(shape), dgate.view(shape),
                           view(gate, shape), dup.view(shape));
      cpu::add(context, sum.view(shape), view(dy, shape));
      cpu::copy(context, same.view(shape), view(dy, shape));
      cpu::zero(context, none.view(shape));
      return outputs(y, dgate, dup, sum, same, none);
    });
    std::vector<double> y(n), dgate(n), dup(n);
    const auto g = to_double(gate), u = to_double(up), d = to_double(dy);
    ref::swiglu_forward(y.data(), g.data(), u.data(), static_cast<std::int64_t>(n));
    ref::swiglu_backward(dgate.data(), dup.data(), d.data(), g.data(), u.data(),
                         static_cast<std::int64_t>(n));
    CHECK(difference(got[0], y) < 1e-6);  // about eight roundings
    CHECK(difference(got[1], dgate) < 1e-6);
    CHECK(difference(got[2], dup) < 1e-6);
    for (std::size_t i = 0; i < n; ++i) REQUIRE(got[3][i] == up[i] + dy[i]);
    CHECK(same_bits(got[4], dy));
    CHECK(same_bits(got[5], std::vector<float>(n, 0.0f)));
  }
}

TEST_CASE("gather, scatter and the embedding's gradient, rows that repeat added in order") {
  for (const std::int64_t width : {1, 17, 64, 300}) {
    const auto table = random_values(static_cast<std::size_t>(7 * width), 1);
    const std::vector<std::int32_t> rows{3, 0, 3, 6, 3, 0};
    const auto values = random_values(rows.size() * static_cast<std::size_t>(width), 2);
    const Shape small{static_cast<std::int64_t>(rows.size()), width};
    const auto got = same_everywhere([&](cpu::LayerContext& context) {
      Guarded gathered(values.size()), scattered(table);
      cpu::gather_rows(context, gathered.view(small), view(table, {7, width}), rows);
      cpu::scatter_add_rows(context, scattered.view({7, width}), view(values, small), rows);
      return outputs(gathered, scattered);
    });
    std::vector<float> gathered(values.size()), scattered = table;
    ref::embedding_forward(gathered.data(), table.data(), rows, width);
    ref::scatter_add_rows(scattered.data(), values.data(), rows, width);
    CHECK(same_bits(got[0], gathered));
    CHECK(same_bits(got[1], scattered));  // the same additions in the same order
  }
  TestContext one(1, cpu::active_isa());
  const auto table = random_values(6, 1);
  const std::vector<std::int32_t> outside{2};
  Guarded out(3);
  CHECK_THROWS_AS(cpu::gather_rows(one.context, out.view({1, 3}), view(table, {2, 3}), outside),
                  Error);
  Guarded target(6);
  CHECK_THROWS_AS(
      cpu::scatter_add_rows(one.context, target.view({2, 3}), view(table, {1, 3}), outside), Error);
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
