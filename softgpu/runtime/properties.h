#pragma once

#include <cuda_runtime_api.h>

#include <cstring>
#include <optional>

#include "softgpu/runtime/device_model.h"

namespace softgpu::runtime {

// Fills a cudaDeviceProp, of whichever version of CUDA. Properties of what is not emulated
// (textures, peers, clusters, cooperative launches) are zero.
template <typename Properties>
void fill_properties(const DeviceModel& model, Properties& p) {
  std::memset(&p, 0, sizeof p);
  const DeviceLimits limits = model.limits();
  model.name.copy(p.name, sizeof p.name - 1);
  p.totalGlobalMem = model.memory;
  p.sharedMemPerBlock = DeviceModel::kSharedPerBlock;
  p.regsPerBlock = DeviceModel::kRegistersPerSm;
  p.warpSize = 32;
  p.memPitch = 2147483647;
  p.maxThreadsPerBlock = DeviceModel::kThreadsPerBlock;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    p.maxThreadsDim[axis] = static_cast<int>(limits.block_dim[axis]);
    p.maxGridSize[axis] = static_cast<int>(limits.grid_dim[axis]);
  }
  p.totalConstMem = 65536;
  p.major = model.major;
  p.minor = model.minor;
  p.textureAlignment = 512;
  p.multiProcessorCount = model.sm_count;
  p.canMapHostMemory = 1;
  p.concurrentKernels = 1;
  p.asyncEngineCount = 2;
  p.unifiedAddressing = 1;
  p.memoryBusWidth = model.bus_bits;
  p.l2CacheSize = model.l2_bytes;
  p.maxThreadsPerMultiProcessor = model.threads_per_sm;
  p.streamPrioritiesSupported = 1;
  p.globalL1CacheSupported = 1;
  p.localL1CacheSupported = 1;
  p.sharedMemPerMultiprocessor = static_cast<std::size_t>(model.shared_per_sm);
  p.regsPerMultiprocessor = DeviceModel::kRegistersPerSm;
  p.managedMemory = 1;
  p.sharedMemPerBlockOptin = static_cast<std::size_t>(model.shared_per_block_optin);
  p.maxBlocksPerMultiProcessor = model.blocks_per_sm;
  p.reservedSharedMemPerBlock = DeviceModel::kSharedReserved;
  p.hostRegisterSupported = 1;
  p.memoryPoolsSupported = 1;
  if constexpr (requires { p.clockRate; }) {  // gone in CUDA 13
    p.clockRate = model.clock_khz;
    p.memoryClockRate = model.memory_clock_khz;
    p.deviceOverlap = 1;
  }
}

// One attribute; empty for one that is not known.
std::optional<int> device_attribute(const DeviceModel& model, cudaDeviceAttr attribute);

}  // namespace softgpu::runtime
