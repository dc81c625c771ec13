#include "train/run/memory.h"

#include <algorithm>

namespace qgrpo::train {
namespace {

constexpr std::size_t kSoftHostBudget = std::size_t{3} << 30;

}  // namespace

MemoryBudget memory_budget(const MemoryOptions& options, std::optional<std::size_t> device_free,
                           std::size_t host_available) {
  if (options.device_memory_gb > 0 || device_free) {
    const double memory = options.device_memory_gb > 0 ? options.device_memory_gb * 1e9
                                                       : static_cast<double>(*device_free);
    const auto bytes = static_cast<std::size_t>(memory * options.gpu_memory_utilization);
    return {bytes, false, bytes};
  }
  const std::size_t hard = host_available / 10 * 9;
  return {std::min(hard, kSoftHostBudget), true, hard};
}

model::PassCapacity place_activations(model::PassCapacity pass, std::int64_t num_layers,
                                      bool gradient_checkpointing, bool may_offload,
                                      const FitsPass& fits) {
  pass.kept_layers = gradient_checkpointing ? 0 : num_layers;
  pass.offloaded_layers = 0;
  if (!gradient_checkpointing) return pass;
  if (!fits(pass)) {
    // Two buffers serve all inputs that are offloaded, so the third saves the first byte.
    while (may_offload && pass.offloaded_layers < num_layers && !fits(pass))
      ++pass.offloaded_layers;
    return pass;
  }
  for (model::PassCapacity more = pass; more.kept_layers < num_layers;) {
    ++more.kept_layers;
    if (!fits(more)) break;
    pass = more;
  }
  return pass;
}

}  // namespace qgrpo::train
