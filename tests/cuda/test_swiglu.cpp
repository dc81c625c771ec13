#include "cuda/device_support.h"
#include "support/case_runs.h"

namespace qgrpo::test {
namespace {

TEST_CASE("cuda swiglu: forward and backward; add, copy, zero") {
  const Backends b = both_backends();
  if (!b) return;
  for (const cases::RowCase& c : cases::swiglu()) {
    CAPTURE(c.name);
    check_outputs(run_swiglu(*b.cuda, c), run_swiglu(*b.cpu, c), &cases::Bound::cuda);
  }
}

}  // namespace
}  // namespace qgrpo::test
