#include "cuda/device_support.h"
#include "support/case_runs.h"

namespace qgrpo::test {
namespace {

TEST_CASE("cuda rmsnorm: forward and backward") {
  const Backends b = both_backends();
  if (!b) return;
  for (const cases::RowCase& c : cases::rmsnorm()) {
    CAPTURE(c.name);
    check_outputs(run_rmsnorm(*b.cuda, c), run_rmsnorm(*b.cpu, c), &cases::Bound::cuda);
  }
}

}  // namespace
}  // namespace qgrpo::test
