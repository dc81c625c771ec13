// A whole run of every family: sampling, rewards, gradients, optimizer, checkpoint.
#include <cmath>

#include "family_run.h"

namespace qgrpo::train {

TEST_CASE("families: a GRPO run of each, sampled and trained with the same bits") {
  const Fixture fixture;
  for (const model::Family& family : model::families()) {
    CAPTURE(std::string(family.name));
    std::vector<std::unique_ptr<io::JsonDocument>> documents;
    for (const io::JsonValue& line :
         run_family(fixture, family, *cpu::make_cpu_backend(2), documents)) {
      CHECK(line.at("grad_norm").as_double() > 0.0);
      CHECK(std::isfinite(line.at("loss").as_double()));
      CHECK(line.at("sampling/sampling_logp_difference/max").as_double() == 0.0);
    }
  }
}

}  // namespace qgrpo::train
