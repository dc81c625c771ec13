// The entry points whose name, signature or answer differs between CUDA 12 and 13. This file is
// compiled once for each library that is built; SOFTGPU_CUDART_12 makes the one that answers as
// libcudart.so.12, with the headers of either version.

#include <cstddef>

#include "softgpu/runtime/properties.h"
#include "softgpu/runtime/settings.h"
#include "softgpu/runtime/state.h"

using namespace softgpu::runtime;

namespace {

#if defined(SOFTGPU_CUDART_12) && CUDART_VERSION >= 13000

constexpr int kVersion = 12090;

// cudaDeviceProp as CUDA 12 lays it out.
struct Properties {
  char name[256];
  cudaUUID_t uuid;
  char luid[8];
  unsigned luidDeviceNodeMask;
  size_t totalGlobalMem, sharedMemPerBlock;
  int regsPerBlock, warpSize;
  size_t memPitch;
  int maxThreadsPerBlock, maxThreadsDim[3], maxGridSize[3], clockRate;
  size_t totalConstMem;
  int major, minor;
  size_t textureAlignment, texturePitchAlignment;
  int deviceOverlap, multiProcessorCount, kernelExecTimeoutEnabled, integrated, canMapHostMemory,
      computeMode;
  int textures[40];  // sizes of textures and surfaces: none
  size_t surfaceAlignment;
  int concurrentKernels, ECCEnabled, pciBusID, pciDeviceID, pciDomainID, tccDriver,
      asyncEngineCount, unifiedAddressing, memoryClockRate, memoryBusWidth, l2CacheSize,
      persistingL2CacheMaxSize, maxThreadsPerMultiProcessor, streamPrioritiesSupported,
      globalL1CacheSupported, localL1CacheSupported;
  size_t sharedMemPerMultiprocessor;
  int regsPerMultiprocessor, managedMemory, isMultiGpuBoard, multiGpuBoardGroupID,
      hostNativeAtomicSupported, singleToDoublePrecisionPerfRatio, pageableMemoryAccess,
      concurrentManagedAccess, computePreemptionSupported, canUseHostPointerForRegisteredMem,
      cooperativeLaunch, cooperativeMultiDeviceLaunch;
  size_t sharedMemPerBlockOptin;
  int pageableMemoryAccessUsesHostPageTables, directManagedMemAccessFromHost,
      maxBlocksPerMultiProcessor, accessPolicyMaxWindowSize;
  size_t reservedSharedMemPerBlock;
  int hostRegisterSupported, sparseCudaArraySupported, hostRegisterReadOnlySupported,
      timelineSemaphoreInteropSupported, memoryPoolsSupported;
  int rest[71];
};
static_assert(sizeof(Properties) == 1032 && offsetof(Properties, surfaceAlignment) == 568 &&
              offsetof(Properties, l2CacheSize) == 616 &&
              offsetof(Properties, sharedMemPerBlockOptin) == 696 &&
              offsetof(Properties, memoryPoolsSupported) == 744);

#define SOFTGPU_ADD_DEPENDENCIES add_dependencies
#define SOFTGPU_GET_PROPERTIES cudaGetDeviceProperties_v2
#define SOFTGPU_EDGES

#elif CUDART_VERSION >= 13000

constexpr int kVersion = CUDART_VERSION;
using Properties = cudaDeviceProp;
#define SOFTGPU_ADD_DEPENDENCIES cudaGraphAddDependencies
#define SOFTGPU_GET_PROPERTIES cudaGetDeviceProperties
#define SOFTGPU_EDGES const cudaGraphEdgeData*,

#else

constexpr int kVersion = CUDART_VERSION;
using Properties = cudaDeviceProp;
#define SOFTGPU_ADD_DEPENDENCIES cudaGraphAddDependencies
#define SOFTGPU_GET_PROPERTIES cudaGetDeviceProperties_v2
#define SOFTGPU_EDGES

#endif

}  // namespace

extern "C" {

#if defined(SOFTGPU_CUDART_12) && CUDART_VERSION >= 13000
// The headers of CUDA 13 declare another signature under this name.
cudaError_t add_dependencies(cudaGraph_t, const cudaGraphNode_t*, const cudaGraphNode_t*,
                             size_t) __asm__("cudaGraphAddDependencies");
#endif

cudaError_t SOFTGPU_GET_PROPERTIES(Properties* properties, int device) {
  return entry("cudaGetDeviceProperties", [&](Runtime& runtime) {
    if (device != 0) refuse(cudaErrorInvalidDevice, "device {}; there is one, 0", device);
    fill_properties(runtime.model, *properties);
  });
}

cudaError_t cudaDriverGetVersion(int* version) {
  return entry(
      "cudaDriverGetVersion",
      [&](Runtime&) { *version = static_cast<int>(number_setting("SOFTGPU_DRIVER", kVersion)); },
      Poisoned::kAllow);
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}

cudaError_t SOFTGPU_ADD_DEPENDENCIES(cudaGraph_t handle, const cudaGraphNode_t* from,
                                     const cudaGraphNode_t* to, SOFTGPU_EDGES size_t count) {
  return entry("cudaGraphAddDependencies", [&](Runtime& runtime) {
    const auto graph = runtime.graph(handle);
    const auto sources = checked_nodes(*graph, from, count);
    const auto targets = checked_nodes(*graph, to, count);
    for (std::size_t i = 0; i < count; ++i) targets[i]->after.push_back(sources[i]);
  });
}

}  // extern "C"
