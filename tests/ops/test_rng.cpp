#include <doctest/doctest.h>

#include "model/ops/rng.h"

using namespace qgrpo;

TEST_CASE("philox: the known answers of the authors' Random123 distribution") {
  using Words = std::array<std::uint32_t, 4>;
  CHECK(philox({0, 0, 0, 0}, {0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}) ==
        Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("rng: uniform numbers stay inside (0, 1), below(n) below n, streams differ") {
  CHECK(uniform_open(0) > 0.0f);
  CHECK(uniform_open(~0u) < 1.0f);
  Rng a(7, RngStream::test);
  Rng b(7, RngStream::data_order);
  int equal = 0;
  for (int i = 0; i < 100; ++i) {
    CHECK(a.below(10) < 10);
    equal += a.next_u32() == b.next_u32();
  }
  CHECK(equal == 0);
}
