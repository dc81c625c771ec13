#include "cuda/rope.h"

#include "cuda/device_support.h"
#include "cuda/sizes/paged_attention.h"
#include "support/case_runs.h"

namespace qgrpo::test {
namespace {

TEST_CASE("cuda rope: forward, and backward undoes it") {
  const Backends b = both_backends();
  if (!b) return;
  for (const cases::RopeCase& c : cases::rope()) {
    CAPTURE(c.name);
    if (!cuda_takes(c)) {
      CHECK_THROWS_WITH_AS(run_case(*b.cuda, c), doctest::Contains("multiple of 4"), Error);
      continue;
    }
    const Outputs device = run_case(*b.cuda, c), host = run_case(*b.cpu, c);
    check_outputs({device[0]}, {host[0]}, &cases::Bound::cuda);
    const auto before = bf16_values(static_cast<std::int64_t>(device[1].values.size()), 6);
    CHECK(worst_difference(device[1].values, before) < device[1].bound.cuda);
  }
}

TEST_CASE("cuda rope: its table is made anew when the slots move, and when another model asks") {
  const Backends b = both_backends();
  if (!b) return;
  const std::vector<std::int32_t> positions = {63, 2, 1};
  const auto x = bf16_values(3 * 32, 69);
  cuda::Device device;
  cuda::Rope rope;
  const auto turned = [&](std::int32_t dim, double theta) {
    const OnBackend xs(*b.cuda, x, {3, 32});
    rope.apply(device, xs, rope_frequencies(dim, theta), positions, 1.0f);
    device.stream().synchronize();
    return xs.values();
  };
  const auto expected = [&](std::int32_t dim, double theta) {
    const OnBackend xs(*b.cpu, x, {3, 32});
    b.cpu->layer().rope_forward(xs, rope_frequencies(dim, theta), positions);
    return xs.values();
  };
  const auto check = [&](std::int32_t dim, double theta) {
    CHECK(worst_difference(turned(dim, theta), expected(dim, theta)) < kRounding);
  };
  check(32, 1e6);
  check(32, 1e4);
  check(16, 1e4);
  cuda::SlotBytes slots{};
  slots[static_cast<std::size_t>(cuda::Slot::rope_table)] = cuda::rope_table_bytes(64, 32);
  slots[static_cast<std::size_t>(cuda::Slot::rope_positions)] = cuda::token_index_bytes(3);
  device.reserve(0, slots);
  check(16, 1e4);
  check(32, 1e4);
}

}  // namespace
}  // namespace qgrpo::test
