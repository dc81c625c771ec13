#include "cuda/device/device.h"
#include "device_support.h"
#include "train/grpo/family_run.h"

namespace qgrpo::test {
namespace {

// Sampling and training round to bf16 in kernels that sum in another order.
constexpr double kLogpDifference = 0.1;

TEST_CASE("cuda families: a GRPO run of each, in the memory that the plan says") {
  if (!both_backends()) return;
  const train::Fixture fixture;
  for (const model::Family& family : model::families()) {
    CAPTURE(std::string(family.name));
    const auto device = qgrpo::cuda::make_cuda_backend();
    std::vector<std::unique_ptr<io::JsonDocument>> documents;
    const std::size_t before = qgrpo::cuda::device_use().bytes;
    std::uint64_t allocations = 0;
    const auto metrics = train::run_family(
        fixture, family, *device, documents, [&](const train::GrpoTrainer& trainer) {
          allocations = qgrpo::cuda::device_use().allocations;
          CHECK(qgrpo::cuda::device_use().bytes - before == trainer.plan().allocated_bytes);
        });
    CHECK(qgrpo::cuda::device_use().allocations == allocations);
    for (const io::JsonValue& line : metrics) {
      CHECK(line.at("grad_norm").as_double() > 0.0);
      CHECK(line.at("sampling/sampling_logp_difference/max").as_double() < kLogpDifference);
    }
  }
}

}  // namespace
}  // namespace qgrpo::test
