#include "softgpu/runtime/extension.h"

#include "softgpu/runtime/state.h"

using namespace softgpu::runtime;

extern "C" cudaError_t cudaSoftgpuSubmit(cudaStream_t stream, const char* label,
                                         const SoftgpuWork& work, const LibraryCost& cost) {
  return entry(label, [&](Runtime& runtime) {
    runtime.submit(runtime.stream(stream), cudaGraphNodeTypeKernel, label,
                   [&runtime, name = std::string(label), work, cost] {
                     const std::string problem = work(runtime.memory);
                     if (!problem.empty()) {
                       throw FaultError(cudaErrorIllegalAddress, name + ": " + problem);
                     }
                     if (runtime.profile.active()) runtime.profile.add(name, cost);
                   });
  });
}
