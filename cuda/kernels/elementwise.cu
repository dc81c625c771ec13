// Sums and conversions of whole tensors, element by element (elementwise.cuh has the launch).
//
// ptxas (sm_80, sm_89): at most 32 registers; no shared memory, no spills. Bound by DRAM.

#include "cuda/kernels/common/elementwise.cuh"
#include "cuda/kernels/elementwise.h"

namespace qgrpo::cuda::kernels {
namespace {

template <typename T>
struct Add {
  T* y;
  const T* x;
  template <int V>
  __device__ void run(std::int64_t i) const {
    float a[V], b[V];
    load<V>(a, y + i);
    load<V>(b, x + i);
#pragma unroll
    for (int j = 0; j < V; ++j) a[j] += b[j];
    store<V>(y + i, a);
  }
};

struct ToBf16 {
  bf16* y;
  const float* x;
  float scale;
  template <int V>
  __device__ void run(std::int64_t i) const {
    float a[V];
    load<V>(a, x + i);
#pragma unroll
    for (int j = 0; j < V; ++j) a[j] *= scale;
    store<V>(y + i, a);
  }
};

}  // namespace

cudaError_t add(cudaStream_t stream, bf16* y, const bf16* x, std::int64_t n) {
  return launch_elements(stream, n, Add<bf16>{y, x});
}
cudaError_t add(cudaStream_t stream, float* y, const float* x, std::int64_t n) {
  return launch_elements(stream, n, Add<float>{y, x});
}
cudaError_t to_bf16(cudaStream_t stream, bf16* y, const float* x, float scale, std::int64_t n) {
  return launch_elements(stream, n, ToBf16{y, x, scale});
}

}  // namespace qgrpo::cuda::kernels
