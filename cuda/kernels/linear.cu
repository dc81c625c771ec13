// What a linear's products leave to do: the end of a forward whose sum is in float32, and the
// bias's gradient (elementwise.cuh and column_sums.cuh have the launches).

#include "cuda/kernels/common/column_sums.cuh"
#include "cuda/kernels/common/elementwise.cuh"
#include "cuda/kernels/linear.h"

namespace qgrpo::cuda::kernels {
namespace {

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

struct OfBias {
  const bf16* x;
  template <int V>
  __device__ void term(float (&out)[V], std::int64_t, std::int64_t at) const {
    load<V>(out, x + at);
  }
};

}  // namespace

cudaError_t finish_linear(cudaStream_t stream, bf16* y, const float* sum, const float* bias,
                          const bf16* residual, std::int64_t rows, std::int64_t width) {
  return launch_elements(stream, rows * width, FinishLinear{y, sum, bias, residual, width});
}

cudaError_t column_sums(cudaStream_t stream, float* sum, const bf16* x, std::int64_t rows,
                        std::int64_t width, float* partials) {
  return sum_columns(stream, sum, OfBias{x}, rows, width, partials);
}

}  // namespace qgrpo::cuda::kernels
