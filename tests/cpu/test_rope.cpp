#include "cpu/rope.h"

#include <doctest/doctest.h>

#include "cpu/op_support.h"
#include "cpu/reference/rope.h"

using namespace qgrpo;
using namespace qgrpo::test;
namespace ref = qgrpo::cpu::reference;

TEST_CASE("rope turns by the position, and back again") {
  for (const cases::RopeCase& c : cases::rope()) {
    CAPTURE(c.name);
    const auto rows = static_cast<std::int64_t>(c.positions.size());
    const std::int64_t heads = c.heads, dim = c.dim;
    const auto& positions = c.positions;
    RopeFrequencies rope = rope_frequencies(c.dim, cases::kRopeTheta);
    const auto x = random_values(static_cast<std::size_t>(rows * heads * dim), 1);
    const Shape shape{rows, heads * dim};
    const auto got = same_everywhere([&](cpu::LayerContext& context) {
      Guarded forward(x), back(x);
      cpu::rope(context, forward.view(shape), rope, positions, 1.0f);
      cpu::rope(context, back.view(shape), rope, positions, -1.0f);
      Guarded both(forward.values());
      cpu::rope(context, both.view(shape), rope, positions, -1.0f);
      return outputs(forward, back, both);
    });
    auto forward = to_double(x), back = to_double(x);
    ref::rope(forward.data(), heads, rope, positions, 1.0);
    ref::rope(back.data(), heads, rope, positions, -1.0);
    CHECK(difference(got[0], forward) < cases::kRopeForward.cpu);
    CHECK(difference(got[1], back) < cases::kRopeForward.cpu);
    CHECK(difference(got[2], x) < cases::kRopeThereAndBack.cpu);
    CHECK(difference(forward, x) > 0.1);
  }
}
