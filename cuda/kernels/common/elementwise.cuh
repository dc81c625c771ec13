#pragma once

#include "cuda/kernels/common/pack.cuh"

// The launch of an element-wise operator: float32 inside, one rounding at the end.
//
// Blocks of 256 threads, a thread takes 8 neighbouring elements (the last one the rest). Bytes: one
// 16-byte access per operand and thread, a warp moves 512 bytes at a time.
namespace qgrpo::cuda::kernels {

inline constexpr int kElementThreads = 256;
inline constexpr int kElementVector = 8;

// Calls body.run<V>(first element) for this thread's elements: a whole vector, or the rest singly.
template <typename Body>
__global__ void __launch_bounds__(kElementThreads) elementwise_kernel(std::int64_t n, Body body) {
  const std::int64_t i =
      (std::int64_t{blockIdx.x} * kElementThreads + threadIdx.x) * kElementVector;
  if (i + kElementVector <= n) {
    body.template run<kElementVector>(i);
  } else {
    for (std::int64_t j = i; j < n; ++j) body.template run<1>(j);
  }
}

template <typename Body>
cudaError_t launch_elements(cudaStream_t stream, std::int64_t n, Body body) {
  if (n == 0) return cudaSuccess;
  constexpr std::int64_t kEach = std::int64_t{kElementThreads} * kElementVector;
  const auto blocks = static_cast<unsigned>((n + kEach - 1) / kEach);
  elementwise_kernel<<<blocks, kElementThreads, 0, stream>>>(n, body);
  return cudaGetLastError();
}

}  // namespace qgrpo::cuda::kernels
