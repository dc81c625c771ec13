// libqgrpo_cuda.so's one symbol: see cuda/plugin/plugin.h.
#include "cuda/backend.h"
#include "cuda/ceilings.h"
#include "cuda/plugin/plugin.h"
#include "cuda/timer.h"
#include "qgrpo_build_version.h"

namespace qgrpo::cuda {
namespace {

class Library final : public Plugin {
 public:
  Availability availability() override { return cuda::availability(); }
  std::unique_ptr<Backend> make_backend() override { return make_cuda_backend(); }
  std::unique_ptr<StreamTimer> make_timer(Backend& backend) override {
    return cuda::make_timer(backend);
  }
  DeviceRates device_rates() override { return cuda::device_rates(); }
  std::function<void()> make_copy(Backend& backend, std::size_t bytes) override {
    return cuda::make_copy(backend, bytes);
  }
  std::function<void()> make_product(Backend& backend, std::int64_t rows, std::int64_t n,
                                     std::int64_t k) override {
    return cuda::make_product(backend, rows, n, k);
  }
};

Plugin* plugin() {
  static Library library;
  return &library;
}

}  // namespace
}  // namespace qgrpo::cuda

extern "C" {
// NOLINTNEXTLINE(readability-identifier-naming): a symbol's name
extern const qgrpo::cuda::PluginEntry qgrpo_cuda_plugin;
// NOLINTNEXTLINE(readability-identifier-naming)
const qgrpo::cuda::PluginEntry qgrpo_cuda_plugin = {QGRPO_BUILD_ID, qgrpo::cuda::plugin};
}
