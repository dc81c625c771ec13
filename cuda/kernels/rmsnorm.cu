// RMSNorm, forward and backward.
//
//   forward   rstd = 1 / sqrt(mean(x^2) + eps),  y = x rstd w
//   backward  dx += rstd (w dy - x_hat mean(w dy x_hat)),  dw += sum_t dy x_hat,  x_hat = x rstd
//
// Shapes: x, y, dx, dy (T, H) bf16; w, dw (H), rstd (T) f32.
// Launch: forward and dx a warp a row, 4 rows a block of 128; dw a thread a column, 128 a block.
//
// Bytes: forward reads x and writes y, 4 H a row, and w from the cache; the second read of x hits
// L1 (H = 2048: 4 KB a row, 16 KB a block). Backward reads dy, x, dx and writes dx: 8 H. 16-byte
// accesses: a warp moves 512 bytes at a time; with 8 blocks of 4 warps on an SM 16 KB are in
// flight, above the 3.1 KB (L4) and 8.6 KB (A100) that saturate DRAM. dw walks the rows in order,
// so that the sum does not depend on the launch; its parallelism is H alone, which suffices for the
// small models whose norms are trained.

#include "cuda/kernels/pack.cuh"
#include "cuda/kernels/rmsnorm.h"

namespace qgrpo::cuda::kernels {
namespace {

constexpr int kRowsPerBlock = 4;
constexpr int kColumnsPerBlock = 128;

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

__global__ void __launch_bounds__(kColumnsPerBlock)
    rmsnorm_dweight_kernel(float* dweight, const bf16* dy, const bf16* x, const float* rstd,
                           std::int64_t rows, int width) {
  const int i = blockIdx.x * kColumnsPerBlock + threadIdx.x;
  if (i >= width) return;
  float sum = dweight[i];
  for (std::int64_t t = 0; t < rows; ++t) {
    sum += __bfloat162float(dy[t * width + i]) * (__bfloat162float(x[t * width + i]) * rstd[t]);
  }
  dweight[i] = sum;
}

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
                            const float* rstd, std::int64_t rows, std::int64_t width) {
  if (rows == 0 || width == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>((width + kColumnsPerBlock - 1) / kColumnsPerBlock);
  rmsnorm_dweight_kernel<<<blocks, kColumnsPerBlock, 0, stream>>>(dweight, dy, x, rstd, rows,
                                                                  static_cast<int>(width));
  return cudaGetLastError();
}

}  // namespace qgrpo::cuda::kernels
