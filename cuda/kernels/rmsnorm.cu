// RMSNorm, forward and backward.
//
//   forward   rstd = 1 / sqrt(mean(x^2) + eps),  y = x rstd w
//   backward  dx += rstd (w dy - x_hat mean(w dy x_hat)),  x_hat = x rstd
//             dw += sum over the rows of dy x_hat           (column_sums.cuh has the launch)
//
// Shapes: x, y, dx, dy (T, H) bf16; w (H), rstd (T) f32.
// Launch: a warp a row, 4 rows a block of 128.
//
// Bytes: forward reads x and writes y, 4 H a row, and w from the cache; the second read of x hits
// L1 (H = 2048: 4 KB a row, 16 KB a block). Backward reads dy, x, dx and writes dx: 8 H. 16-byte
// accesses: a warp moves 512 bytes at a time; with 8 blocks of 4 warps on an SM 16 KB are in
// flight, above the 3.1 KB (L4) and 8.6 KB (A100) that saturate DRAM.
// ptxas: forward 32 registers (sm_80) and 38 (sm_89), backward 46 and 46, no shared memory, no
// spills: 10 blocks of 4 warps on an SM.
// Arithmetic: the backward's two passes are about 14 instructions an element, 0.45 issues by warp:
// 900 for a row of 2048 against 16 KB, which an SM of an L4 waits 6300 clocks for, of an A100 1600.
// Keeping dy and x in registers between the passes would take 64 more of them (H = 2048, packed) to
// save reads that hit L1.

#include "cuda/kernels/common/column_sums.cuh"
#include "cuda/kernels/common/pack.cuh"
#include "cuda/kernels/rmsnorm.h"

namespace qgrpo::cuda::kernels {
namespace {

constexpr int kRowsPerBlock = 4;

template <int V>
__global__ void __launch_bounds__(kRowsPerBlock* kWarp)
    rmsnorm_forward_kernel(bf16* y, float* rstd, const bf16* x, const float* weight,
                           std::int64_t rows, int width, float eps) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  if (row >= rows) return;
  x += row * width;
  y += row * width;
  float squares = 0.0f;
  float values[V];
  for (int i = lane * V; i < width; i += kWarp * V) {
    load<V>(values, x + i);
#pragma unroll
    for (int j = 0; j < V; ++j) squares += values[j] * values[j];
  }
  const float r = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(width) + eps);
  if (lane == 0) rstd[row] = r;
  float w[V];
  for (int i = lane * V; i < width; i += kWarp * V) {
    load<V>(values, x + i);
    load<V>(w, weight + i);
#pragma unroll
    for (int j = 0; j < V; ++j) values[j] = values[j] * r * w[j];
    store<V>(y + i, values);
  }
}

template <int V>
__global__ void __launch_bounds__(kRowsPerBlock* kWarp)
    rmsnorm_backward_kernel(bf16* dx, const bf16* dy, const bf16* x, const float* weight,
                            const float* rstd, std::int64_t rows, int width) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  if (row >= rows) return;
  x += row * width;
  dy += row * width;
  dx += row * width;
  const float r = rstd[row];
  float sum = 0.0f;
  float xs[V], ds[V], w[V], out[V];
  for (int i = lane * V; i < width; i += kWarp * V) {
    load<V>(xs, x + i);
    load<V>(ds, dy + i);
    load<V>(w, weight + i);
#pragma unroll
    for (int j = 0; j < V; ++j) sum += w[j] * ds[j] * (xs[j] * r);
  }
  const float mean = warp_sum(sum) / static_cast<float>(width);
  for (int i = lane * V; i < width; i += kWarp * V) {
    load<V>(xs, x + i);
    load<V>(ds, dy + i);
    load<V>(w, weight + i);
    load<V>(out, dx + i);
#pragma unroll
    for (int j = 0; j < V; ++j) out[j] += r * (w[j] * ds[j] - xs[j] * r * mean);
    store<V>(dx + i, out);
  }
}

// The terms of dw.
struct Normed {
  const bf16* dy;
  const bf16* x;
  const float* rstd;
  template <int V>
  __device__ void term(float (&out)[V], std::int64_t row, std::int64_t at) const {
    float xs[V];
    load<V>(xs, x + at);
    load<V>(out, dy + at);
    const float r = rstd[row];
#pragma unroll
    for (int j = 0; j < V; ++j) out[j] *= xs[j] * r;
  }
};

unsigned row_blocks(std::int64_t rows) {
  return static_cast<unsigned>((rows + kRowsPerBlock - 1) / kRowsPerBlock);
}

}  // namespace

cudaError_t rmsnorm_forward(cudaStream_t stream, bf16* y, float* rstd, const bf16* x,
                            const float* weight, std::int64_t rows, std::int64_t width, float eps) {
  if (rows == 0) return cudaSuccess;
  const auto kernel = width % 8 == 0 ? rmsnorm_forward_kernel<8> : rmsnorm_forward_kernel<1>;
  kernel<<<row_blocks(rows), kRowsPerBlock * kWarp, 0, stream>>>(y, rstd, x, weight, rows,
                                                                 static_cast<int>(width), eps);
  return cudaGetLastError();
}

cudaError_t rmsnorm_backward(cudaStream_t stream, bf16* dx, const bf16* dy, const bf16* x,
                             const float* weight, const float* rstd, std::int64_t rows,
                             std::int64_t width) {
  if (rows == 0) return cudaSuccess;
  const auto kernel = width % 8 == 0 ? rmsnorm_backward_kernel<8> : rmsnorm_backward_kernel<1>;
  kernel<<<row_blocks(rows), kRowsPerBlock * kWarp, 0, stream>>>(dx, dy, x, weight, rstd, rows,
                                                                 static_cast<int>(width));
  return cudaGetLastError();
}

cudaError_t rmsnorm_dweight(cudaStream_t stream, float* dweight, const bf16* dy, const bf16* x,
                            const float* rstd, std::int64_t rows, std::int64_t width,
                            float* partials) {
  return sum_columns(stream, dweight, Normed{dy, x, rstd}, rows, width, partials);
}

}  // namespace qgrpo::cuda::kernels
