#include "cpu/swiglu.h"

#include <doctest/doctest.h>

#include "cpu/elementwise.h"
#include "cpu/op_support.h"
#include "cpu/reference/swiglu.h"

using namespace qgrpo;
using namespace qgrpo::test;
namespace ref = qgrpo::cpu::reference;

TEST_CASE("swiglu, add, copy, zero; aliasing as the interface allows") {
  for (const cases::RowCase& c : cases::swiglu()) {
    CAPTURE(c.name);
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
    CHECK(difference(got[0], y) < cases::kSwiglu.cpu);
    CHECK(difference(got[1], dgate) < cases::kSwiglu.cpu);
    CHECK(difference(got[2], dup) < cases::kSwiglu.cpu);
    for (std::size_t i = 0; i < n; ++i) REQUIRE(got[3][i] == up[i] + dy[i]);
    CHECK(same_bits(got[4], dy));
    CHECK(same_bits(got[5], std::vector<float>(n, 0.0f)));
  }
}
