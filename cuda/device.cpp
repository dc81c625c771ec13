#include "cuda/device.h"

#include "cuda/backend.h"

namespace qgrpo::cuda {

DeviceMemory::DeviceMemory(std::size_t bytes) {
  if (bytes == 0) return;
  const cudaError_t code = cudaMalloc(&data_, bytes);
  if (code == cudaErrorMemoryAllocation) {
    std::size_t available = 0, total = 0;
    cudaGetLastError();
    cudaMemGetInfo(&available, &total);
    fail("CUDA: {:.1f} MiB of device memory are needed, {:.1f} of {:.1f} MiB are free",
         static_cast<double>(bytes) / 0x1p20, static_cast<double>(available) / 0x1p20,
         static_cast<double>(total) / 0x1p20);
  }
  QGRPO_CUDA(code);
  bytes_ = bytes;
}

DeviceMemory::~DeviceMemory() {
  // A failure here is that of earlier work, which the call that made it has reported.
  if (data_ != nullptr) cudaFree(data_);
}

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

Device::Device() {
  cudaDeviceProp properties{};
  QGRPO_CUDA(cudaGetDeviceProperties(&properties, 0));
  name_ = properties.name;
  processors_ = properties.multiProcessorCount;
}

std::size_t Device::free_bytes() const {
  std::size_t available = 0, total = 0;
  QGRPO_CUDA(cudaMemGetInfo(&available, &total));
  return available;
}

void* Device::scratch_bytes(Slot slot, std::size_t bytes) {
  DeviceMemory& memory = scratch_[static_cast<std::size_t>(slot)];
  if (bytes > memory.bytes()) {
    stream_.synchronize();  // kernels may still use the old one
    memory = DeviceMemory();
    memory = DeviceMemory(bytes);
  }
  return memory.data();
}

const void* require_view(const char* op, const char* what, ConstTensorView x, DType dtype,
                         std::int64_t elements) {
  require(x.dtype == dtype && x.elements() == elements, "{}: {} is {} {}, expected {} {}", op, what,
          dtype_name(x.dtype), x.shape.str(), elements, dtype_name(dtype));
  require(reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0, "{}: {} is not 16-byte aligned", op,
          what);
  return x.data;
}

}  // namespace qgrpo::cuda
