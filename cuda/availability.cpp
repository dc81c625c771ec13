#include "cuda/availability.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <cstdlib>
#include <string>

#include "cuda/kernels/elementwise.h"
#include "cuda/plugin/driver.h"

namespace qgrpo::cuda {
namespace {

// "13.0" of 13000.
std::string dotted(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

std::string named(cudaError_t code) {
  return fmt::format("{}: {}", cudaGetErrorName(code), cudaGetErrorString(code));
}

Availability old_driver() {
  int supported = 0;
  if (cudaDriverGetVersion(&supported) != cudaSuccess) supported = 0;
  if (supported == 0) return {driver_present(), "no CUDA device: there is no NVIDIA driver"};
  const std::string release = driver_release();
  return {true,
          fmt::format("the NVIDIA driver{} is for CUDA {}, and this CUDA {} backend needs {} or "
                      "later: update the driver, or take a backend of CUDA 12, which runs "
                      "from driver 525 on",
                      release.empty() ? "" : " " + release, dotted(supported),
                      dotted(CUDART_VERSION), CUDART_VERSION >= 13000 ? "580" : "525")};
}

Availability no_device() {
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  if (visible != nullptr) {
    return {driver_present(),
            fmt::format("no CUDA device: CUDA_VISIBLE_DEVICES is \"{}\"", visible)};
  }
  return {driver_present(), "no CUDA device (nvidia-smi shows what the driver sees)"};
}

// What stands in the way of the first context and kernel on a device.
std::string reason(cudaError_t code, const cudaDeviceProp& device) {
  switch (code) {
    case cudaErrorDevicesUnavailable:
      return fmt::format(
          "{} is busy: another process has it for itself (nvidia-smi shows which; its compute mode "
          "may be exclusive)",
          device.name);
    case cudaErrorMemoryAllocation:
      return fmt::format(
          "{} has no memory left for a context: other processes hold it (nvidia-smi "
          "shows which)",
          device.name);
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidPtx:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorJitCompilerNotFound:
    case cudaErrorJitCompilationDisabled:
      return fmt::format(
          "this build has no code that {} (compute capability {}.{}) and its driver take ({}): "
          "build qgrpo on that machine, or with -DQGRPO_CUDA_ARCHITECTURES='80-virtual;{}{}-real'",
          device.name, device.major, device.minor, cudaGetErrorName(code), device.major,
          device.minor);
    case cudaErrorSystemNotReady:
      return fmt::format("{} is not ready ({}): start nvidia-fabricmanager", device.name,
                         named(code));
    case cudaErrorSystemDriverMismatch:
      return fmt::format(
          "the driver in the kernel and its library differ ({}): reboot, or load the module anew",
          named(code));
    default:
      return fmt::format("{} cannot be used ({}); nvidia-smi and the kernel's log may say more",
                         device.name, named(code));
  }
}

// A context, memory, and a kernel on one element.
cudaError_t try_kernel() {
  float* memory = nullptr;
  cudaError_t code = cudaMalloc(reinterpret_cast<void**>(&memory), 256);
  if (code != cudaSuccess) return code;
  code = cudaMemset(memory, 0, 256);
  if (code == cudaSuccess) code = kernels::add(nullptr, memory, memory + 32, 1);
  if (code == cudaSuccess) code = cudaDeviceSynchronize();
  const cudaError_t freed = cudaFree(memory);
  return code != cudaSuccess ? code : freed;
}

Availability find_out() {
  int devices = 0;
  cudaError_t code = cudaGetDeviceCount(&devices);
  if (code == cudaErrorInsufficientDriver) return old_driver();
  if (code == cudaErrorNoDevice || (code == cudaSuccess && devices == 0)) return no_device();
  if (code != cudaSuccess)
    return {true, fmt::format("the NVIDIA driver does not answer ({})", named(code))};
  cudaDeviceProp device{};
  code = cudaGetDeviceProperties(&device, 0);
  if (code != cudaSuccess)
    return {true, fmt::format("the CUDA device does not answer ({})", named(code))};
  if (device.major < 8) {
    return {true,
            fmt::format("{} has compute capability {}.{}, and 8.0 or later is needed (bf16 tensor "
                        "cores): take an A100, A10, L4, RTX 30 or later",
                        device.name, device.major, device.minor)};
  }
  code = try_kernel();
  if (code != cudaSuccess) return {true, reason(code, device)};
  return {true, ""};
}

}  // namespace

Availability availability() {
  Availability found = find_out();
  if (!found.problem.empty()) cudaGetLastError();  // it is told: no later call's
  return found;
}

}  // namespace qgrpo::cuda
