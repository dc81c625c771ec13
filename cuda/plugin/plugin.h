#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "model/ops/ops.h"

// What the program sees of the CUDA backend. The backend is a shared library of its own,
// libqgrpo_cuda.so, so that a machine without CUDA's libraries runs everything else.
namespace qgrpo::cuda {

// What stands against computing on the first CUDA device (the driver's order, CUDA_VISIBLE_DEVICES
// included).
struct Availability {
  bool device = false;  // there is one
  std::string problem;  // empty: it can be used
};

// Measures between two points of the backend's stream, with events.
class StreamTimer {
 public:
  virtual ~StreamTimer() = default;
  virtual void start() = 0;
  // Waits for what was given to the backend since start(); seconds that it took on the device.
  virtual double stop() = 0;
};

// The first device's limits, from its clocks and widths: nominal, not measured. 0 where unknown.
struct DeviceRates {
  std::string name;
  int processors = 0;
  double dram_gb_per_s = 0.0;
  double tensor_tflops = 0.0;  // dense products of bf16, summed in float32
};

class Plugin {
 public:
  virtual ~Plugin() = default;
  virtual Availability availability() = 0;
  // As cuda::make_cuda_backend, cuda::make_timer and cuda::device_rates say (cuda/backend.h,
  // cuda/timer.h).
  virtual std::unique_ptr<Backend> make_backend() = 0;
  virtual std::unique_ptr<StreamTimer> make_timer(Backend& backend) = 0;
  virtual DeviceRates device_rates() = 0;
  // As cuda::make_copy and cuda::make_product (cuda/ceilings.h).
  virtual std::function<void()> make_copy(Backend& backend, std::size_t bytes) = 0;
  virtual std::function<void()> make_product(Backend& backend, std::int64_t rows, std::int64_t n,
                                             std::int64_t k) = 0;
};

// The one symbol of the library, under the name kPluginEntryName. `build` comes first and is read
// first: classes of another build need not be laid out alike.
struct PluginEntry {
  const char* build;    // QGRPO_BUILD_ID of the sources that the library was made of
  Plugin* (*plugin)();  // lives as long as the process
};
inline constexpr const char* kPluginEntryName = "qgrpo_cuda_plugin";

}  // namespace qgrpo::cuda
