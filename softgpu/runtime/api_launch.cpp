// Registration of device code and kernel launches.

#include "softgpu/runtime/launch.h"

using namespace softgpu::runtime;

namespace {

struct CallConfiguration {
  dim3 grid, block;
  std::size_t shared;
  cudaStream_t stream;
};
thread_local std::vector<CallConfiguration> pending;  // between <<<...>>> and the stub's launch

FatBinary* binary_of(void** handle) {
  return reinterpret_cast<FatBinary*>(handle);
}

// Attributes that change speed at most are accepted; one that changes what a kernel may do is not.
void check_attribute(const cudaLaunchAttribute& attribute) {
  switch (attribute.id) {
    case cudaLaunchAttributeCooperative:
      if (attribute.val.cooperative == 0) return;
      refuse(cudaErrorNotSupported, "cooperative launches are not emulated");
    case cudaLaunchAttributeClusterDimension: {
      const auto& d = attribute.val.clusterDim;
      if (d.x <= 1 && d.y <= 1 && d.z <= 1) return;
      refuse(cudaErrorNotSupported, "clusters of blocks are not emulated");
    }
    case cudaLaunchAttributeProgrammaticEvent:
    case cudaLaunchAttributeLaunchCompletionEvent:
    case cudaLaunchAttributeDeviceUpdatableKernelNode:
      refuse(cudaErrorNotSupported, "launch attribute {} is not emulated",
             static_cast<int>(attribute.id));
    default:
      return;
  }
}

cudaError_t launch_entry(const char* name, const void* function, dim3 grid, dim3 block, void** args,
                         std::size_t shared, cudaStream_t stream) {
  return entry(name, [&](Runtime& runtime) {
    launch(runtime, function, grid, block, args, shared, stream);
  });
}

cudaStream_t per_thread(cudaStream_t stream) {
  return stream == nullptr ? cudaStreamPerThread : stream;
}

}  // namespace

extern "C" {

void** __cudaRegisterFatBinary(void* wrapper) {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  return reinterpret_cast<void**>(runtime.modules.add_binary(wrapper));
}

void __cudaRegisterFatBinaryEnd(void**) {}

void __cudaUnregisterFatBinary(void** handle) {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  runtime.modules.remove_binary(binary_of(handle));
}

void __cudaRegisterFunction(void** handle, const char* host, char*, const char* name, int, uint3*,
                            uint3*, dim3*, dim3*, int*) {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  runtime.modules.add_kernel(binary_of(handle), host, name);
}

void __cudaRegisterVar(void** handle, char* host, char*, const char* name, int, size_t size, int,
                       int) {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  runtime.modules.add_variable(binary_of(handle), host, name, size);
}

void __cudaRegisterManagedVar(void**, void**, char*, const char* name, int, size_t, int, int) {
  explain("__cudaRegisterManagedVar",
          std::string("variable ") + name +
              ": __managed__ variables are not emulated, using it faults");
}

char __cudaInitModule(void**) {
  return 1;
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared,
                                     struct CUstream_st* stream) {
  pending.push_back({grid, block, shared, stream});
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  if (pending.empty()) {
    return finish("__cudaPopCallConfiguration", cudaErrorMissingConfiguration,
                  "a kernel's stub was called without a configuration");
  }
  *grid = pending.back().grid;
  *block = pending.back().block;
  *shared = pending.back().shared;
  *static_cast<cudaStream_t*>(stream) = pending.back().stream;
  pending.pop_back();
  return cudaSuccess;
}

// The handle is this library's Kernel; nothing is loaded before the first launch.
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host) {
  return entry(
      "__cudaGetKernel",
      [&](Runtime& runtime) {
        Kernel* found = runtime.modules.find_kernel(host);
        if (found == nullptr) refuse(cudaErrorInvalidDeviceFunction, "{} is not a kernel", host);
        *kernel = reinterpret_cast<cudaKernel_t>(found);
      },
      Poisoned::kAllow);
}

cudaError_t cudaGetKernel(cudaKernel_t* kernel, const void* host) {
  return __cudaGetKernel(kernel, host);
}

cudaError_t cudaGetFuncBySymbol(cudaFunction_t* function, const void* host) {
  return entry("cudaGetFuncBySymbol", [&](Runtime& runtime) {
    *function = reinterpret_cast<cudaFunction_t>(&runtime.modules.kernel(host));
  });
}

cudaError_t cudaFuncGetName(const char** name, const void* host) {
  return entry("cudaFuncGetName",
               [&](Runtime& runtime) { *name = runtime.modules.kernel(host).name.c_str(); });
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** args,
                               size_t shared, cudaStream_t stream) {
  return launch_entry("cudaLaunchKernel", kernel, grid, block, args, shared, stream);
}

cudaError_t __cudaLaunchKernel_ptsz(cudaKernel_t kernel, dim3 grid, dim3 block, void** args,
                                    size_t shared, cudaStream_t stream) {
  return launch_entry("cudaLaunchKernel", kernel, grid, block, args, shared, per_thread(stream));
}

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** args,
                             size_t shared, cudaStream_t stream) {
  return launch_entry("cudaLaunchKernel", function, grid, block, args, shared, stream);
}

cudaError_t cudaLaunchKernel_ptsz(const void* function, dim3 grid, dim3 block, void** args,
                                  size_t shared, cudaStream_t stream) {
  return launch_entry("cudaLaunchKernel", function, grid, block, args, shared, per_thread(stream));
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function,
                                void** args) {
  return entry("cudaLaunchKernelExC", [&](Runtime& runtime) {
    for (unsigned i = 0; i < config->numAttrs; ++i) check_attribute(config->attrs[i]);
    launch(runtime, function, config->gridDim, config->blockDim, args, config->dynamicSmemBytes,
           config->stream);
  });
}

cudaError_t cudaLaunchKernelExC_ptsz(const cudaLaunchConfig_t* config, const void* function,
                                     void** args) {
  cudaLaunchConfig_t own = *config;
  own.stream = per_thread(own.stream);
  return cudaLaunchKernelExC(&own, function, args);
}

cudaError_t cudaLaunchCooperativeKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t) {
  return unsupported("cudaLaunchCooperativeKernel");
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return entry("cudaLaunchHostFunc", [&](Runtime& runtime) {
    if (function == nullptr) refuse(cudaErrorInvalidValue, "no function");
    runtime.submit(runtime.stream(stream), cudaGraphNodeTypeHost, "host function", [=] {
      thread_state().in_callback = true;
      function(data);
      thread_state().in_callback = false;
    });
  });
}

cudaError_t cudaLaunchHostFunc_ptsz(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return cudaLaunchHostFunc(per_thread(stream), function, data);
}

cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void* data,
                                  unsigned) {
  return entry("cudaStreamAddCallback", [&](Runtime& runtime) {
    if (callback == nullptr) refuse(cudaErrorInvalidValue, "no callback");
    const auto target = runtime.stream(stream);
    runtime.forbid_capturing(*target, "a callback");
    runtime.submit(target, cudaGraphNodeTypeHost, "callback", [=] {
      thread_state().in_callback = true;
      callback(stream, cudaSuccess, data);
      thread_state().in_callback = false;
    });
  });
}

}  // extern "C"
