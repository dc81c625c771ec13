// The proof that sampling reads the adapter that is trained.
#include "train/grpo/canary.h"

#include <string>

#include "model/ops/error.h"
#include "trainer_fixture.h"

namespace qgrpo::train {
namespace {

std::string fault_of(const model::Model& model, const model::LoraAdapter& adapter,
                     std::int64_t step) {
  try {
    check_published(model, adapter, 0, step);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE(
    "canary: a model that refers to another adapter is noticed, whichever module is looked at") {
  const auto backend = cpu::make_cpu_backend(1);
  auto model = model::Model::load(*backend, short_demo_model(), model::Quantize::none);
  model::LoraConfig lora;
  lora.r = 4;
  const auto trained = model::LoraAdapter::create(*backend, model.config(), lora, 1);
  const auto other = model::LoraAdapter::create(*backend, model.config(), lora, 1);
  const std::int64_t modules = model.config().num_layers * model::kProjections;
  model.set_adapters({&trained, &other});
  for (std::int64_t step = 0; step < 2 * modules; ++step)
    CHECK(fault_of(model, trained, step).empty());
  model.set_adapters({&other, &trained});
  for (std::int64_t step = 0; step < modules; ++step) {
    const std::string fault = fault_of(model, trained, step);
    CHECK(fault.starts_with("step " + std::to_string(step + 1) + ": model.layers."));
    CHECK(fault.find("is not the one that was trained") != std::string::npos);
  }
}

}  // namespace qgrpo::train
