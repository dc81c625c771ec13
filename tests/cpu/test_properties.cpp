#include "support/properties.h"

#include "cpu/backend.h"
#include "cpu/reference/backend.h"

namespace qgrpo::test {

TEST_CASE("properties: the fast operators") {
  check_properties(*cpu::make_cpu_backend(2), 12);
}

TEST_CASE("properties: the plain operators") {
  check_properties(*cpu::make_reference_backend(), 3);
}

}  // namespace qgrpo::test
