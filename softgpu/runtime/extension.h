#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <string>

#include "softgpu/exec/device_memory.h"
#include "softgpu/runtime/profile.h"

// What softgpu's other libraries need of its runtime, beyond CUDA's own entry points.

// Work on device memory. Returns a diagnosis, empty on success; a diagnosis poisons the context.
using SoftgpuWork = std::function<std::string(softgpu::DeviceMemory&)>;

// Gives work to a stream (or to the graph that the stream records) as if it were a kernel, which
// profiles list under `label` with `cost`.
extern "C" cudaError_t cudaSoftgpuSubmit(cudaStream_t stream, const char* label,
                                         const SoftgpuWork& work,
                                         const softgpu::runtime::LibraryCost& cost);
