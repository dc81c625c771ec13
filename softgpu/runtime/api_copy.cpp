// Copies and fills.

#include "softgpu/runtime/copy.h"

using namespace softgpu::runtime;

namespace {

constexpr bool kWait = true;
constexpr bool kNoWait = false;

cudaError_t copy_entry(const char* name, const CopyRequest& request, cudaStream_t stream,
                       bool wait) {
  return entry(name, [&](Runtime& runtime) { copy(runtime, request, stream, wait); });
}

CopyRequest plain(void* destination, const void* source, std::size_t bytes, cudaMemcpyKind kind) {
  return {destination, bytes, source, bytes, bytes, 1, kind};
}

// Device address of [offset, offset + bytes) of a variable.
void* in_symbol(Runtime& runtime, const void* symbol, std::size_t offset, std::size_t bytes) {
  const auto [address, size] = runtime.modules.variable(symbol);
  if (offset > size || bytes > size - offset) {
    refuse(cudaErrorInvalidValue, "{} bytes at offset {} of a variable of {} bytes", bytes, offset,
           size);
  }
  return reinterpret_cast<void*>(address + offset);
}

cudaError_t to_symbol(const char* name, const void* symbol, const void* source, std::size_t bytes,
                      std::size_t offset, cudaMemcpyKind kind, cudaStream_t stream, bool wait) {
  return entry(name, [&](Runtime& runtime) {
    if (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyHostToHost) {
      refuse(cudaErrorInvalidMemcpyDirection, "a variable is the device's");
    }
    void* destination = in_symbol(runtime, symbol, offset, bytes);
    copy(runtime, plain(destination, source, bytes, kind), stream, wait);
  });
}

cudaError_t from_symbol(const char* name, void* destination, const void* symbol, std::size_t bytes,
                        std::size_t offset, cudaMemcpyKind kind, cudaStream_t stream, bool wait) {
  return entry(name, [&](Runtime& runtime) {
    if (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyHostToHost) {
      refuse(cudaErrorInvalidMemcpyDirection, "a variable is the device's");
    }
    const void* source = in_symbol(runtime, symbol, offset, bytes);
    copy(runtime, plain(destination, source, bytes, kind), stream, wait);
  });
}

cudaError_t fill_entry(const char* name, const FillRequest& request, cudaStream_t stream) {
  return entry(name, [&](Runtime& runtime) { fill(runtime, request, stream); });
}

}  // namespace

extern "C" {

cudaError_t cudaMemcpy(void* destination, const void* source, size_t bytes, cudaMemcpyKind kind) {
  return copy_entry("cudaMemcpy", plain(destination, source, bytes, kind), nullptr, kWait);
}
cudaError_t cudaMemcpy_ptds(void* destination, const void* source, size_t bytes,
                            cudaMemcpyKind kind) {
  return copy_entry("cudaMemcpy", plain(destination, source, bytes, kind), cudaStreamPerThread,
                    kWait);
}
cudaError_t cudaMemcpyAsync(void* destination, const void* source, size_t bytes,
                            cudaMemcpyKind kind, cudaStream_t stream) {
  return copy_entry("cudaMemcpyAsync", plain(destination, source, bytes, kind), stream, kNoWait);
}

cudaError_t cudaMemcpy2D(void* destination, size_t destination_pitch, const void* source,
                         size_t source_pitch, size_t width, size_t height, cudaMemcpyKind kind) {
  return copy_entry("cudaMemcpy2D",
                    {destination, destination_pitch, source, source_pitch, width, height, kind},
                    nullptr, kWait);
}
cudaError_t cudaMemcpy2D_ptds(void* destination, size_t destination_pitch, const void* source,
                              size_t source_pitch, size_t width, size_t height,
                              cudaMemcpyKind kind) {
  return copy_entry("cudaMemcpy2D",
                    {destination, destination_pitch, source, source_pitch, width, height, kind},
                    cudaStreamPerThread, kWait);
}
cudaError_t cudaMemcpy2DAsync(void* destination, size_t destination_pitch, const void* source,
                              size_t source_pitch, size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  return copy_entry("cudaMemcpy2DAsync",
                    {destination, destination_pitch, source, source_pitch, width, height, kind},
                    stream, kNoWait);
}

cudaError_t cudaMemcpyPeer(void* destination, int, const void* source, int, size_t bytes) {
  return copy_entry("cudaMemcpyPeer", plain(destination, source, bytes, cudaMemcpyDeviceToDevice),
                    nullptr, kWait);
}
cudaError_t cudaMemcpyPeerAsync(void* destination, int, const void* source, int, size_t bytes,
                                cudaStream_t stream) {
  return copy_entry("cudaMemcpyPeerAsync",
                    plain(destination, source, bytes, cudaMemcpyDeviceToDevice), stream, kNoWait);
}

cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* source, size_t bytes, size_t offset,
                               cudaMemcpyKind kind) {
  return to_symbol("cudaMemcpyToSymbol", symbol, source, bytes, offset, kind, nullptr, kWait);
}
cudaError_t cudaMemcpyToSymbol_ptds(const void* symbol, const void* source, size_t bytes,
                                    size_t offset, cudaMemcpyKind kind) {
  return to_symbol("cudaMemcpyToSymbol", symbol, source, bytes, offset, kind, cudaStreamPerThread,
                   kWait);
}
cudaError_t cudaMemcpyToSymbolAsync(const void* symbol, const void* source, size_t bytes,
                                    size_t offset, cudaMemcpyKind kind, cudaStream_t stream) {
  return to_symbol("cudaMemcpyToSymbolAsync", symbol, source, bytes, offset, kind, stream, kNoWait);
}
cudaError_t cudaMemcpyFromSymbol(void* destination, const void* symbol, size_t bytes, size_t offset,
                                 cudaMemcpyKind kind) {
  return from_symbol("cudaMemcpyFromSymbol", destination, symbol, bytes, offset, kind, nullptr,
                     kWait);
}
cudaError_t cudaMemcpyFromSymbol_ptds(void* destination, const void* symbol, size_t bytes,
                                      size_t offset, cudaMemcpyKind kind) {
  return from_symbol("cudaMemcpyFromSymbol", destination, symbol, bytes, offset, kind,
                     cudaStreamPerThread, kWait);
}
cudaError_t cudaMemcpyFromSymbolAsync(void* destination, const void* symbol, size_t bytes,
                                      size_t offset, cudaMemcpyKind kind, cudaStream_t stream) {
  return from_symbol("cudaMemcpyFromSymbolAsync", destination, symbol, bytes, offset, kind, stream,
                     kNoWait);
}

cudaError_t cudaGetSymbolAddress(void** pointer, const void* symbol) {
  return entry("cudaGetSymbolAddress",
               [&](Runtime& runtime) { *pointer = in_symbol(runtime, symbol, 0, 0); });
}
cudaError_t cudaGetSymbolSize(size_t* size, const void* symbol) {
  return entry("cudaGetSymbolSize",
               [&](Runtime& runtime) { *size = runtime.modules.variable(symbol).second; });
}

cudaError_t cudaMemset(void* destination, int value, size_t bytes) {
  return fill_entry("cudaMemset", {destination, bytes, static_cast<unsigned>(value), 1, bytes, 1},
                    nullptr);
}
cudaError_t cudaMemset_ptds(void* destination, int value, size_t bytes) {
  return fill_entry("cudaMemset", {destination, bytes, static_cast<unsigned>(value), 1, bytes, 1},
                    cudaStreamPerThread);
}
cudaError_t cudaMemsetAsync(void* destination, int value, size_t bytes, cudaStream_t stream) {
  return fill_entry("cudaMemsetAsync",
                    {destination, bytes, static_cast<unsigned>(value), 1, bytes, 1}, stream);
}
cudaError_t cudaMemset2D(void* destination, size_t pitch, int value, size_t width, size_t height) {
  return fill_entry("cudaMemset2D",
                    {destination, pitch, static_cast<unsigned>(value), 1, width, height}, nullptr);
}
cudaError_t cudaMemset2DAsync(void* destination, size_t pitch, int value, size_t width,
                              size_t height, cudaStream_t stream) {
  return fill_entry("cudaMemset2DAsync",
                    {destination, pitch, static_cast<unsigned>(value), 1, width, height}, stream);
}

}  // extern "C"
