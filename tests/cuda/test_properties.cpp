#include "support/properties.h"

#include "cuda/device_support.h"

namespace qgrpo::test {

TEST_CASE("cuda properties: rows, zeros, scales and sums of parts") {
  const Backends b = both_backends();
  if (b) check_properties(*b.cuda, 4);
}

}  // namespace qgrpo::test
