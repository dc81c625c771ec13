#include "softgpu/runtime/api_profile.h"

#include "softgpu/runtime/state.h"

using softgpu::runtime::entry;
using softgpu::runtime::Runtime;

extern "C" int softgpuProfileBegin(void) {
  return entry("softgpuProfileBegin", [&](Runtime& runtime) {
    runtime.synchronise_all();
    runtime.profile.begin();
  });
}

extern "C" const char* softgpuProfileEnd(void) {
  const char* json = nullptr;
  const cudaError_t error = entry("softgpuProfileEnd", [&](Runtime& runtime) {
    runtime.synchronise_all();
    json = runtime.profile.end();
  });
  return error == cudaSuccess ? json : nullptr;
}
