#include "cuda/device/availability.h"

#include <fmt/format.h>

#include "cuda/device/check.h"

namespace qgrpo::cuda {

Availability availability() {
  int devices = 0;
  const cudaError_t code = cudaGetDeviceCount(&devices);
  if (code == cudaErrorNoDevice || code == cudaErrorInsufficientDriver ||
      (code == cudaSuccess && devices == 0)) {
    cudaGetLastError();
    return {false, code == cudaErrorInsufficientDriver
                       ? "no NVIDIA driver, or one older than the CUDA runtime of this build"
                       : "no CUDA device"};
  }
  if (code != cudaSuccess) {
    cudaGetLastError();
    return {true, fmt::format("{}: {}", cudaGetErrorName(code), cudaGetErrorString(code))};
  }
  cudaDeviceProp properties{};
  QGRPO_CUDA(cudaGetDeviceProperties(&properties, 0));
  if (properties.major < 8) {
    return {true, fmt::format("{} has compute capability {}.{}, 8.0 or newer is needed (bf16)",
                              properties.name, properties.major, properties.minor)};
  }
  return {true, ""};
}

}  // namespace qgrpo::cuda
