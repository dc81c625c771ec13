#pragma once

#include <memory>

#include "cuda/plugin/plugin.h"

// Time on the device, and what the device could do: for benchmarks.
namespace qgrpo::cuda {

// `backend` must be a CUDA backend that outlives the timer; throws Error for another one.
std::unique_ptr<StreamTimer> make_timer(Backend& backend);

DeviceRates device_rates();

}  // namespace qgrpo::cuda
