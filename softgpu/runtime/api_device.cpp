// The device, its properties, versions, and the error state.

#include <cstring>

#include "softgpu/runtime/properties.h"
#include "softgpu/runtime/state.h"

using namespace softgpu::runtime;

namespace {

void check_device(int device) {
  if (device != 0) refuse(cudaErrorInvalidDevice, "device {}; there is one, 0", device);
}

}  // namespace

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  return entry(
      "cudaGetDeviceCount", [&](Runtime&) { *count = 1; }, Poisoned::kAllow);
}
cudaError_t cudaGetDevice(int* device) {
  return entry(
      "cudaGetDevice", [&](Runtime&) { *device = 0; }, Poisoned::kAllow);
}
cudaError_t cudaSetDevice(int device) {
  return entry("cudaSetDevice", [&](Runtime&) { check_device(device); });
}
cudaError_t cudaInitDevice(int device, unsigned, unsigned) {
  return cudaSetDevice(device);
}
cudaError_t cudaSetDeviceFlags(unsigned) {
  return entry("cudaSetDeviceFlags", [&](Runtime&) {});
}
cudaError_t cudaGetDeviceFlags(unsigned* flags) {
  return entry("cudaGetDeviceFlags", [&](Runtime&) { *flags = cudaDeviceScheduleAuto; });
}

cudaError_t cudaDeviceSynchronize() {
  return entry("cudaDeviceSynchronize", [&](Runtime& runtime) {
    runtime.forbid_during_capture("a synchronisation of the device");
    runtime.synchronise_all();
  });
}

cudaError_t cudaDeviceReset() {
  return entry(
      "cudaDeviceReset", [&](Runtime& runtime) { runtime.reset(); }, Poisoned::kAllow);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  return entry(
      "cudaDeviceGetAttribute",
      [&](Runtime& runtime) {
        check_device(device);
        const auto found = device_attribute(runtime.model, attribute);
        if (!found) {
          refuse(cudaErrorInvalidValue, "attribute {} is not known", static_cast<int>(attribute));
        }
        *value = *found;
      },
      Poisoned::kAllow);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return entry("cudaDeviceGetStreamPriorityRange", [&](Runtime&) {
    if (least != nullptr) *least = 0;
    if (greatest != nullptr) *greatest = -5;
  });
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) {
  return entry("cudaDeviceCanAccessPeer", [&](Runtime&) { *can = 0; });
}
cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  return entry("cudaDeviceGetPCIBusId", [&](Runtime&) {
    check_device(device);
    if (length < 13) refuse(cudaErrorInvalidValue, "{} bytes are too few", length);
    std::memcpy(text, "0000:00:00.0", 13);
  });
}
cudaError_t cudaDeviceSetCacheConfig(cudaFuncCache) {
  return entry("cudaDeviceSetCacheConfig", [&](Runtime&) {});
}
cudaError_t cudaDeviceSetLimit(cudaLimit, size_t) {
  return entry("cudaDeviceSetLimit", [&](Runtime&) {});
}

cudaError_t cudaProfilerStart() {
  return entry("cudaProfilerStart", [&](Runtime&) {});
}
cudaError_t cudaProfilerStop() {
  return entry("cudaProfilerStop", [&](Runtime&) {});
}

// A poisoned context answers with its fault; any other error is forgotten once it was read.
cudaError_t cudaPeekAtLastError() {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  return runtime.fault ? *runtime.fault : thread_state().last_error;
}
cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  thread_state().last_error = cudaSuccess;
  return error;
}
const char* cudaGetErrorName(cudaError_t code) {
  return error_name(code);
}
const char* cudaGetErrorString(cudaError_t code) {
  return error_text(code);
}

}  // extern "C"
