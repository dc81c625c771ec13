// Element-wise operators: float32 inside, one rounding at the end.
//
// Launch: blocks of 256 threads, a thread takes 8 neighbouring elements (the last one the rest).
// Bytes: one 16-byte access per operand and thread, a warp moves 512 bytes at a time. SwiGLU
// forward moves 6 bytes an element, backward 10; the exponential and the division cost about 20
// instructions an element, 4 warps of arithmetic a KB: below DRAM's time on an L4 and an A100.
// ptxas (sm_80, sm_89): SwiGLU 30 and 31 registers forward, 37 and 37 backward, the others at most
// 32; no shared memory, no spills.

#include "cuda/kernels/elementwise.h"
#include "cuda/kernels/pack.cuh"

namespace qgrpo::cuda::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kVector = 8;

unsigned blocks_for(std::int64_t n) {
  constexpr std::int64_t kEach = std::int64_t{kThreads} * kVector;
  return static_cast<unsigned>((n + kEach - 1) / kEach);
}

// Calls body<V>(first element) for this thread's elements: a whole vector, or the rest singly.
template <typename Body>
__device__ void for_elements(std::int64_t n, Body body) {
  const std::int64_t i = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * kVector;
  if (i + kVector <= n) {
    body.template run<kVector>(i);
  } else {
    for (std::int64_t j = i; j < n; ++j) body.template run<1>(j);
  }
}

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

struct SwigluForward {
  bf16* y;
  const bf16* gate;
  const bf16* up;
  template <int V>
  __device__ void run(std::int64_t i) const {
    float g[V], u[V];
    load<V>(g, gate + i);
    load<V>(u, up + i);
#pragma unroll
    for (int j = 0; j < V; ++j) g[j] = g[j] / (1.0f + expf(-g[j])) * u[j];
    store<V>(y + i, g);
  }
};

struct SwigluBackward {
  bf16* dgate;
  bf16* dup;
  const bf16* dy;
  const bf16* gate;
  const bf16* up;
  template <int V>
  __device__ void run(std::int64_t i) const {
    float d[V], g[V], u[V];
    load<V>(d, dy + i);
    load<V>(g, gate + i);
    load<V>(u, up + i);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float s = 1.0f / (1.0f + expf(-g[j]));
      const float of_up = d[j] * g[j] * s;
      g[j] = d[j] * u[j] * s * (1.0f + g[j] * (1.0f - s));
      u[j] = of_up;
    }
    store<V>(dgate + i, g);
    store<V>(dup + i, u);
  }
};

struct FinishLinear {
  bf16* y;
  const float* sum;
  const float* bias;
  const bf16* residual;
  std::int64_t width;
  template <int V>
  __device__ void run(std::int64_t i) const {
    float v[V], old[V];
    load<V>(v, sum + i);
    if (bias != nullptr) {
      const std::int64_t column = i % width;
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] += bias[(column + j) % width];
    }
    if (residual != nullptr) {
      load<V>(old, residual + i);
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] += old[j];
    }
    store<V>(y + i, v);
  }
};

template <typename Body>
__global__ void __launch_bounds__(kThreads) elementwise_kernel(std::int64_t n, Body body) {
  for_elements(n, body);
}

template <typename Body>
cudaError_t launch(cudaStream_t stream, std::int64_t n, Body body) {
  if (n == 0) return cudaSuccess;
  elementwise_kernel<<<blocks_for(n), kThreads, 0, stream>>>(n, body);
  return cudaGetLastError();
}

}  // namespace

cudaError_t add(cudaStream_t stream, bf16* y, const bf16* x, std::int64_t n) {
  return launch(stream, n, Add<bf16>{y, x});
}
cudaError_t add(cudaStream_t stream, float* y, const float* x, std::int64_t n) {
  return launch(stream, n, Add<float>{y, x});
}
cudaError_t to_bf16(cudaStream_t stream, bf16* y, const float* x, float scale, std::int64_t n) {
  return launch(stream, n, ToBf16{y, x, scale});
}
cudaError_t swiglu_forward(cudaStream_t stream, bf16* y, const bf16* gate, const bf16* up,
                           std::int64_t n) {
  return launch(stream, n, SwigluForward{y, gate, up});
}
cudaError_t swiglu_backward(cudaStream_t stream, bf16* dgate, bf16* dup, const bf16* dy,
                            const bf16* gate, const bf16* up, std::int64_t n) {
  return launch(stream, n, SwigluBackward{dgate, dup, dy, gate, up});
}
cudaError_t finish_linear(cudaStream_t stream, bf16* y, const float* sum, const float* bias,
                          const bf16* residual, std::int64_t rows, std::int64_t width) {
  return launch(stream, rows * width, FinishLinear{y, sum, bias, residual, width});
}

}  // namespace qgrpo::cuda::kernels
