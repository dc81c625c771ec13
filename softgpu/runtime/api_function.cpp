// What a program asks about kernels: attributes and occupancy.

#include <algorithm>

#include "softgpu/runtime/launch.h"

using namespace softgpu::runtime;

namespace {

std::size_t constant_bytes(const Kernel& kernel) {
  std::size_t sum = 0;
  for (const auto& variable : kernel.binary->module->variables) {
    if (variable.space == softgpu::ptx::Space::constant) sum += variable.size;
  }
  return sum;
}

int blocks_per_sm(Runtime& runtime, const void* function, int threads, std::size_t dynamic) {
  const Kernel& kernel = runtime.modules.kernel(function);
  if (threads > max_threads_per_block(*kernel.function)) return 0;
  const std::size_t shared = kernel.function->dynamic_shared_offset() + dynamic;
  if (shared > static_cast<std::size_t>(runtime.model.shared_per_block_optin)) return 0;
  return resident_blocks(runtime.model, threads, registers_per_thread(*kernel.function), shared);
}

}  // namespace

extern "C" {

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  return entry("cudaFuncGetAttributes", [&](Runtime& runtime) {
    const Kernel& kernel = runtime.modules.kernel(function);
    const int architecture = kernel.binary->module->architecture;
    *attributes = {};
    attributes->sharedSizeBytes = kernel.function->shared_bytes;
    attributes->constSizeBytes = constant_bytes(kernel);
    attributes->localSizeBytes = kernel.function->local_bytes;
    attributes->maxThreadsPerBlock = max_threads_per_block(*kernel.function);
    attributes->numRegs = registers_per_thread(*kernel.function);
    attributes->ptxVersion = architecture;
    attributes->binaryVersion = runtime.model.major * 10 + runtime.model.minor;
    attributes->maxDynamicSharedSizeBytes = static_cast<int>(dynamic_shared_limit(kernel));
    attributes->preferredShmemCarveout = kernel.carveout;
  });
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  return entry("cudaFuncSetAttribute", [&](Runtime& runtime) {
    Kernel& kernel = runtime.modules.kernel(function);
    if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
      const std::int64_t most =
          runtime.model.shared_per_block_optin - std::int64_t{kernel.function->shared_bytes};
      if (value < 0 || value > most) {
        refuse(cudaErrorInvalidValue,
               "{}: {} bytes of dynamic shared memory; {} allows {} beside {} static ones",
               kernel.title, value, runtime.model.name, most, kernel.function->shared_bytes);
      }
      kernel.dynamic_shared_limit = static_cast<std::uint32_t>(value);
    } else if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) {
      if (value < -1 || value > 100) refuse(cudaErrorInvalidValue, "carveout of {} percent", value);
      kernel.carveout = value;
    } else {
      refuse(cudaErrorNotSupported, "attribute {} is not emulated", static_cast<int>(attribute));
    }
  });
}

cudaError_t cudaFuncSetCacheConfig(const void* function, cudaFuncCache) {
  return entry("cudaFuncSetCacheConfig",
               [&](Runtime& runtime) { runtime.modules.kernel(function); });
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks,
                                                                   const void* function,
                                                                   int threads, size_t dynamic,
                                                                   unsigned) {
  return entry("cudaOccupancyMaxActiveBlocksPerMultiprocessor", [&](Runtime& runtime) {
    if (threads <= 0) refuse(cudaErrorInvalidValue, "a block of {} threads", threads);
    *blocks = blocks_per_sm(runtime, function, threads, dynamic);
  });
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function,
                                                          int threads, size_t dynamic) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, dynamic,
                                                                0);
}

cudaError_t cudaOccupancyAvailableDynamicSMemPerBlock(size_t* bytes, const void* function,
                                                      int blocks, int threads) {
  return entry("cudaOccupancyAvailableDynamicSMemPerBlock", [&](Runtime& runtime) {
    if (blocks <= 0 || blocks_per_sm(runtime, function, threads, 0) < blocks) {
      refuse(cudaErrorInvalidValue, "{} blocks of {} threads do not fit", blocks, threads);
    }
    const std::size_t each =
        static_cast<std::size_t>(runtime.model.shared_per_sm / blocks) / 128 * 128;
    const std::size_t statics = runtime.modules.kernel(function).function->dynamic_shared_offset();
    const std::size_t taken = statics + DeviceModel::kSharedReserved;
    const std::size_t most =
        static_cast<std::size_t>(runtime.model.shared_per_block_optin) - statics;
    *bytes = each > taken ? std::min(each - taken, most) : 0;
  });
}

}  // extern "C"
