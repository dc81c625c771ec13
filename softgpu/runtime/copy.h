#pragma once

#include <cstddef>

#include "softgpu/runtime/state.h"

namespace softgpu::runtime {

// A copy of `height` rows of `width` bytes; a plain copy is one row.
struct CopyRequest {
  void* destination = nullptr;
  std::size_t destination_pitch = 0;
  const void* source = nullptr;
  std::size_t source_pitch = 0;
  std::size_t width = 0, height = 1;
  cudaMemcpyKind kind = cudaMemcpyDefault;
};

// Checks pointers, direction and bounds, and gives the copy to the stream. Ordinary (pageable) host
// memory is read at once, as through a staging buffer, and a copy to it is waited for; `wait` asks
// for the synchronous form, which waits whenever host memory is involved. Throws ApiError.
void copy(Runtime& runtime, CopyRequest request, cudaStream_t stream, bool wait);
// The work of a copy, checked; for graph nodes.
Body copy_body(Runtime& runtime, const CopyRequest& request);

struct FillRequest {
  void* destination = nullptr;
  std::size_t pitch = 0;
  unsigned value = 0;
  std::size_t element = 1;            // bytes: 1, 2 or 4
  std::size_t width = 0, height = 1;  // width in elements
};
void fill(Runtime& runtime, const FillRequest& request, cudaStream_t stream);
Body fill_body(Runtime& runtime, const FillRequest& request);

}  // namespace softgpu::runtime
