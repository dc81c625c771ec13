#include "softgpu/runtime/properties.h"

namespace softgpu::runtime {

std::optional<int> device_attribute(const DeviceModel& model, cudaDeviceAttr attribute) {
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
    case cudaDevAttrMaxBlockDimX:
    case cudaDevAttrMaxBlockDimY:
      return DeviceModel::kThreadsPerBlock;
    case cudaDevAttrMaxBlockDimZ:
      return 64;
    case cudaDevAttrMaxGridDimX:
    case cudaDevAttrMaxPitch:
      return 2147483647;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ:
      return 65535;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      return DeviceModel::kSharedPerBlock;
    case cudaDevAttrTotalConstantMemory:
      return 65536;
    case cudaDevAttrWarpSize:
      return 32;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor:
      return DeviceModel::kRegistersPerSm;
    case cudaDevAttrClockRate:
      return model.clock_khz;
    case cudaDevAttrMemoryClockRate:
      return model.memory_clock_khz;
    case cudaDevAttrTextureAlignment:
      return 512;
    case cudaDevAttrMultiProcessorCount:
      return model.sm_count;
    case cudaDevAttrGlobalMemoryBusWidth:
      return model.bus_bits;
    case cudaDevAttrL2CacheSize:
      return model.l2_bytes;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      return model.threads_per_sm;
    case cudaDevAttrAsyncEngineCount:
      return 2;
    case cudaDevAttrComputeCapabilityMajor:
      return model.major;
    case cudaDevAttrComputeCapabilityMinor:
      return model.minor;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      return model.shared_per_sm;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      return model.shared_per_block_optin;
    case cudaDevAttrReservedSharedMemoryPerBlock:
      return DeviceModel::kSharedReserved;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      return model.blocks_per_sm;
    case cudaDevAttrSingleToDoublePrecisionPerfRatio:
      return model.minor == 9 ? 64 : 2;
    case cudaDevAttrGpuOverlap:
    case cudaDevAttrCanMapHostMemory:
    case cudaDevAttrConcurrentKernels:
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrStreamPrioritiesSupported:
    case cudaDevAttrGlobalL1CacheSupported:
    case cudaDevAttrLocalL1CacheSupported:
    case cudaDevAttrManagedMemory:
    case cudaDevAttrHostRegisterSupported:
    case cudaDevAttrMemoryPoolsSupported:
      return 1;
    default:
      break;
  }
  // The others are features that are not emulated: absent.
  constexpr int kLastAttribute = 147;
  if (attribute >= 1 && attribute <= kLastAttribute) return 0;
  return std::nullopt;
}

}  // namespace softgpu::runtime
