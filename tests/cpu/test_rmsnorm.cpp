#include "cpu/rmsnorm.h"

#include <doctest/doctest.h>

#include "cpu/op_support.h"
#include "cpu/reference/rmsnorm.h"

using namespace qgrpo;
using namespace qgrpo::test;
namespace ref = qgrpo::cpu::reference;

TEST_CASE("rmsnorm forward and backward") {
  for (const cases::RowCase& c : cases::rmsnorm()) {
    CAPTURE(c.name);
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
    CHECK(difference(got[0], y) < cases::kRmsnormY.cpu);
    CHECK(difference(got[1], rstd) < cases::kRmsnormRstd.cpu);
    double cancelled = 1.0;
    for (const double r : rstd) cancelled = std::max(cancelled, r);
    CHECK(difference(got[2], dx) < cases::kRmsnormDx.cpu * cancelled);
    CHECK(difference(got[3], dw) < cases::kRmsnormDweight.cpu);
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
