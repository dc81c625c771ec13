#include "train/grpo/canary.h"

#include <string>
#include <vector>

#include "model/ops/error.h"

namespace qgrpo::train {
namespace {

using Factors = model::LoraAdapter::Factors;

struct Place {
  std::int64_t layer = 0;
  model::Projection projection{};
};

std::vector<Place> modules(const model::LoraAdapter& adapter) {
  std::vector<Place> out;
  for (std::int64_t l = 0; l < adapter.layers(); ++l) {
    for (const model::Projection p : model::kAllProjections) {
      if (adapter.at(l, p).a) out.push_back({l, p});
    }
  }
  return out;
}

bool is_rounded(Backend& backend, ConstTensorView shadow, ConstTensorView master) {
  std::vector<float> exact(master.elements());
  std::vector<std::uint16_t> rounded(shadow.elements());
  backend.download(exact.data(), master);
  backend.download(rounded.data(), shadow);
  backend.synchronize();
  if (exact.size() != rounded.size()) return false;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    if (f32_to_bf16(exact[i]) != rounded[i]) return false;
  }
  return true;
}

}  // namespace

void check_published(const model::Model& model, const model::LoraAdapter& adapter,
                     std::int32_t index, std::int64_t step) {
  const std::vector<Place> all = modules(adapter);
  if (all.empty()) return;
  const Place place = all[static_cast<std::size_t>(step) % all.size()];
  const Factors& own = adapter.at(place.layer, place.projection);
  const LoraFactors& read = model.linear(place.layer, place.projection).adapters[index];
  const auto fault = [&](char factor, const char* what) {
    fail(
        "step {}: {}.lora_{} that sampling reads is not the one that was trained ({}); this is a "
        "fault of the program or of the device's memory: please report it",
        step + 1, own.name, factor, what);
  };
  if (read.a.data != own.a.data || read.scale != own.scale) fault('A', "another place in memory");
  if (read.b.data != own.b.data) fault('B', "another place in memory");
  Backend& backend = model.backend();
  if (own.a_shadow && !is_rounded(backend, read.a_shadow, own.a)) fault('A', "a stale bf16 copy");
  if (own.b_shadow && !is_rounded(backend, read.b_shadow, own.b)) fault('B', "a stale bf16 copy");
}

}  // namespace qgrpo::train
