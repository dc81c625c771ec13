#pragma once

#include <memory>
#include <string>

#include "model/ops/ops.h"

// Time on the device, and what the device could do: for benchmarks.
namespace qgrpo::cuda {

// Measures between two points of the backend's stream, with events.
class StreamTimer {
 public:
  virtual ~StreamTimer() = default;
  virtual void start() = 0;
  // Waits for what was given to the backend since start(); seconds that it took on the device.
  virtual double stop() = 0;
};
// `backend` must be a CUDA backend that outlives the timer; throws Error for another one.
std::unique_ptr<StreamTimer> make_timer(Backend& backend);

// The first device's limits, from its clocks and widths: nominal, not measured. 0 where unknown.
struct DeviceRates {
  std::string name;
  int processors = 0;
  double dram_gb_per_s = 0.0;
  double tensor_tflops = 0.0;  // dense products of bf16, summed in float32
};
DeviceRates device_rates();

}  // namespace qgrpo::cuda
