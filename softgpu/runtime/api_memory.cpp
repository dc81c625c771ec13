// Device memory, host memory that the device sees, memory pools, pointer queries.

#include <cstdlib>

#include "softgpu/runtime/state.h"

using namespace softgpu::runtime;
using softgpu::Allocation;
using softgpu::DeviceMemory;
using softgpu::MemoryKind;

namespace {

constexpr std::size_t kHostAlignment = 4096;

std::uint64_t address_of(const void* pointer) {
  return reinterpret_cast<std::uint64_t>(pointer);
}

void allocate(Runtime& runtime, void** pointer, std::size_t bytes) {
  if (pointer == nullptr) refuse(cudaErrorInvalidValue, "no place for the pointer");
  *pointer = nullptr;
  if (bytes == 0) return;
  const std::uint64_t address = runtime.memory.allocate(bytes);
  if (address == 0) refuse(cudaErrorMemoryAllocation);
  *pointer = reinterpret_cast<void*>(address);
}

void* allocate_host(Runtime& runtime, std::size_t bytes) {
  const std::size_t rounded = (bytes + kHostAlignment - 1) / kHostAlignment * kHostAlignment;
  void* memory = std::aligned_alloc(kHostAlignment, rounded);
  if (memory == nullptr) refuse(cudaErrorMemoryAllocation);
  if (!runtime.memory.map_host(memory, bytes)) {
    std::free(memory);
    refuse(cudaErrorMemoryAllocation);
  }
  return memory;
}

cudaError_t host_entry(const char* name, void** pointer, std::size_t bytes) {
  return entry(name, [&](Runtime& runtime) {
    runtime.forbid_during_capture(name);
    *pointer = nullptr;
    if (bytes == 0) return;
    *pointer = allocate_host(runtime, bytes);
    runtime.host_allocations[*pointer] = bytes;
  });
}

// The one pool: memory comes from the device whatever pool is named.
char default_pool;
cudaMemPool_t pool_handle() {
  return reinterpret_cast<cudaMemPool_t>(&default_pool);
}
std::uint64_t release_threshold = 0;

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  return entry("cudaMalloc", [&](Runtime& runtime) {
    runtime.forbid_during_capture("cudaMalloc");
    allocate(runtime, pointer, bytes);
  });
}

cudaError_t cudaMallocPitch(void** pointer, size_t* pitch, size_t width, size_t height) {
  return entry("cudaMallocPitch", [&](Runtime& runtime) {
    runtime.forbid_during_capture("cudaMallocPitch");
    *pitch = (width + 511) / 512 * 512;
    allocate(runtime, pointer, *pitch * height);
  });
}

// A free waits for all work, as the real one does for the work that may use the memory.
cudaError_t cudaFree(void* pointer) {
  return entry("cudaFree", [&](Runtime& runtime) {
    if (pointer == nullptr) return;
    runtime.forbid_during_capture("cudaFree");
    runtime.synchronise_all();
    if (runtime.managed.erase(pointer) == 1) {
      runtime.memory.unmap_host(pointer);
      std::free(pointer);
      return;
    }
    const std::string problem = runtime.memory.free(address_of(pointer));
    if (!problem.empty()) refuse(cudaErrorInvalidValue, "{}", problem);
  });
}

cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t stream) {
  return entry("cudaMallocAsync", [&](Runtime& runtime) {
    if (runtime.stream(stream)->capture != nullptr) {
      refuse(cudaErrorNotSupported, "allocations inside a graph are not emulated");
    }
    allocate(runtime, pointer, bytes);
  });
}

cudaError_t cudaMallocFromPoolAsync(void** pointer, size_t bytes, cudaMemPool_t,
                                    cudaStream_t stream) {
  return cudaMallocAsync(pointer, bytes, stream);
}

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  return entry("cudaFreeAsync", [&](Runtime& runtime) {
    if (pointer == nullptr) return;
    const auto target = runtime.stream(stream);
    if (target->capture != nullptr) {
      refuse(cudaErrorNotSupported, "frees inside a graph are not emulated");
    }
    const Allocation* found = runtime.memory.find(address_of(pointer));
    if (found == nullptr || found->begin != address_of(pointer) || found->freed) {
      refuse(cudaErrorInvalidValue, "{}", runtime.memory.diagnose(address_of(pointer), 1));
    }
    runtime.submit(target, cudaGraphNodeTypeMemFree, "free", [&runtime, pointer] {
      const std::string problem = runtime.memory.free(address_of(pointer));
      if (!problem.empty()) throw FaultError(cudaErrorInvalidValue, "cudaFreeAsync: " + problem);
    });
  });
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  return host_entry("cudaMallocHost", pointer, bytes);
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  return host_entry("cudaHostAlloc", pointer, bytes);
}

cudaError_t cudaFreeHost(void* pointer) {
  return entry("cudaFreeHost", [&](Runtime& runtime) {
    if (pointer == nullptr) return;
    runtime.forbid_during_capture("cudaFreeHost");
    runtime.synchronise_all();
    if (runtime.host_allocations.erase(pointer) == 0) {
      refuse(cudaErrorInvalidValue, "{} is not from cudaMallocHost or cudaHostAlloc", pointer);
    }
    runtime.memory.unmap_host(pointer);
    std::free(pointer);
  });
}

cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned) {
  return entry("cudaHostRegister", [&](Runtime& runtime) {
    if (pointer == nullptr || bytes == 0) refuse(cudaErrorInvalidValue, "no memory to register");
    if (!runtime.memory.map_host(pointer, bytes)) {
      refuse(cudaErrorHostMemoryAlreadyRegistered, "{} bytes at {}", bytes, pointer);
    }
  });
}

cudaError_t cudaHostUnregister(void* pointer) {
  return entry("cudaHostUnregister", [&](Runtime& runtime) {
    runtime.synchronise_all();
    const bool own =
        runtime.host_allocations.contains(pointer) || runtime.managed.contains(pointer);
    if (own || !runtime.memory.unmap_host(pointer)) {
      refuse(cudaErrorHostMemoryNotRegistered, "{} is not registered", pointer);
    }
  });
}

cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  return entry("cudaHostGetDevicePointer", [&](Runtime& runtime) {
    if (!runtime.is_pinned(host, 1)) {
      refuse(cudaErrorInvalidValue, "{} is not pinned host memory", host);
    }
    *device = host;
  });
}

cudaError_t cudaHostGetFlags(unsigned* flags, void* host) {
  return entry("cudaHostGetFlags", [&](Runtime& runtime) {
    if (!runtime.is_pinned(host, 1)) {
      refuse(cudaErrorInvalidValue, "{} is not pinned host memory", host);
    }
    *flags = cudaHostAllocMapped;
  });
}

// Managed memory is host memory that the device sees; kernels run only while the host waits or
// calls, so there is nothing to migrate.
cudaError_t cudaMallocManaged(void** pointer, size_t bytes, unsigned) {
  return entry("cudaMallocManaged", [&](Runtime& runtime) {
    runtime.forbid_during_capture("cudaMallocManaged");
    if (bytes == 0) refuse(cudaErrorInvalidValue, "zero bytes");
    *pointer = allocate_host(runtime, bytes);
    runtime.managed[*pointer] = bytes;
  });
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  return entry("cudaMemGetInfo", [&](Runtime& runtime) {
    *total = runtime.memory.capacity();
    *free_bytes = runtime.memory.capacity() - runtime.memory.used();
  });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  return entry("cudaPointerGetAttributes", [&](Runtime& runtime) {
    *attributes = {};
    attributes->device = -2;  // what the real one says of memory it does not know
    attributes->hostPointer = const_cast<void*>(pointer);
    const Allocation* found = runtime.memory.find(address_of(pointer));
    if (found == nullptr || !found->contains(address_of(pointer), 1)) {
      attributes->type = cudaMemoryTypeUnregistered;
      if (DeviceMemory::is_device_address(address_of(pointer))) attributes->hostPointer = nullptr;
      return;
    }
    attributes->device = 0;
    attributes->devicePointer = const_cast<void*>(pointer);
    if (found->kind != MemoryKind::kHost) {
      attributes->type = cudaMemoryTypeDevice;
      attributes->hostPointer = nullptr;
    } else {
      const bool managed = runtime.managed.contains(reinterpret_cast<void*>(found->begin));
      attributes->type = managed ? cudaMemoryTypeManaged : cudaMemoryTypeHost;
    }
  });
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  return entry("cudaDeviceGetDefaultMemPool", [&](Runtime&) {
    if (device != 0) refuse(cudaErrorInvalidDevice, "device {}", device);
    *pool = pool_handle();
  });
}
cudaError_t cudaDeviceGetMemPool(cudaMemPool_t* pool, int device) {
  return cudaDeviceGetDefaultMemPool(pool, device);
}
cudaError_t cudaDeviceSetMemPool(int, cudaMemPool_t) {
  return cudaSuccess;
}
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) {
  return entry("cudaMemPoolCreate", [&](Runtime&) { *pool = pool_handle(); });
}
cudaError_t cudaMemPoolDestroy(cudaMemPool_t) {
  return cudaSuccess;
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) {
  return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr attribute, void* value) {
  return entry("cudaMemPoolSetAttribute", [&](Runtime&) {
    if (attribute == cudaMemPoolAttrReleaseThreshold) {
      release_threshold = *static_cast<std::uint64_t*>(value);
    }
  });
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr attribute, void* value) {
  return entry("cudaMemPoolGetAttribute", [&](Runtime& runtime) {
    switch (attribute) {
      case cudaMemPoolAttrReleaseThreshold:
        *static_cast<std::uint64_t*>(value) = release_threshold;
        return;
      case cudaMemPoolAttrUsedMemCurrent:
      case cudaMemPoolAttrReservedMemCurrent:
        *static_cast<std::uint64_t*>(value) = runtime.memory.used();
        return;
      default:
        refuse(cudaErrorNotSupported, "attribute {} is not emulated", static_cast<int>(attribute));
    }
  });
}

}  // extern "C"
