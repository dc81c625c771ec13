#include "cuda/timer.h"

#include <cuda_runtime_api.h>

#include "cuda/backend.h"
#include "cuda/device/check.h"

namespace qgrpo::cuda {
namespace {

class EventTimer final : public StreamTimer {
 public:
  explicit EventTimer(cudaStream_t stream) : stream_(stream) {
    QGRPO_CUDA(cudaEventCreate(&begin_));
    QGRPO_CUDA(cudaEventCreate(&end_));
  }
  ~EventTimer() override {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }
  EventTimer(const EventTimer&) = delete;
  EventTimer& operator=(const EventTimer&) = delete;

  void start() override { QGRPO_CUDA(cudaEventRecord(begin_, stream_)); }
  double stop() override {
    QGRPO_CUDA(cudaEventRecord(end_, stream_));
    QGRPO_CUDA(cudaEventSynchronize(end_));
    float milliseconds = 0.0f;
    QGRPO_CUDA(cudaEventElapsedTime(&milliseconds, begin_, end_));
    return static_cast<double>(milliseconds) * 1e-3;
  }

 private:
  cudaStream_t stream_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

int attribute(cudaDeviceAttr what) {
  int value = 0;
  QGRPO_CUDA(cudaDeviceGetAttribute(&value, what, 0));
  return value;
}

// Multiply-adds of bf16 that a multiprocessor's tensor cores do in a clock, two operations each
// (CUDA's tuning guides and data sheets); 0 for a device that is not known here.
double tensor_flops_a_clock(int major, int minor) {
  if (major == 8) return minor == 0 ? 2048.0 : 1024.0;
  if (major == 9) return 4096.0;
  if (major == 10) return 8192.0;
  if (major == 12) return 1024.0;
  return 0.0;
}

}  // namespace

std::unique_ptr<StreamTimer> make_timer(Backend& backend) {
  return std::make_unique<EventTimer>(static_cast<cudaStream_t>(stream_of(backend)));
}

DeviceRates device_rates() {
  cudaDeviceProp properties{};
  QGRPO_CUDA(cudaGetDeviceProperties(&properties, 0));
  DeviceRates rates;
  rates.name = properties.name;
  rates.processors = properties.multiProcessorCount;
  // Clocks in kHz; the memory moves data twice a clock.
  const double memory_clock = 1e3 * attribute(cudaDevAttrMemoryClockRate);
  const double bus_bytes = attribute(cudaDevAttrGlobalMemoryBusWidth) / 8.0;
  rates.dram_gb_per_s = 2.0 * memory_clock * bus_bytes / 1e9;
  rates.tensor_tflops = tensor_flops_a_clock(properties.major, properties.minor) *
                        properties.multiProcessorCount * 1e3 * attribute(cudaDevAttrClockRate) /
                        1e12;
  return rates;
}

}  // namespace qgrpo::cuda
