#pragma once

#include "cuda/kernels/common/pack.cuh"
#include "cuda/sizes/backward.h"

// Sums over the tokens of a batch, sum_c += sum_t term(t, c), whose order depends on the sizes alone.
//
// Launch: a block of 128 threads takes 64 rows, a thread 8 neighbouring columns (16-byte loads; one
// column where the width is no multiple of 8), then a thread a column adds the partial sums. No
// shared memory. Bytes: the terms' operands once, and 4/64 of a byte an element written and read.
// At T = 8192 and N = 2048 that is 128 x 2 blocks of 4 warps with 512 bytes each in flight for
// every row of the unrolled loop (4): about 9 KB per SM of an L4. ptxas (sm_80, sm_89): 32 and 40
// registers, RMSNorm's weight 38 and 40, the partial sums 30 and 30; no spills.
namespace qgrpo::cuda::kernels {

inline constexpr int kColumnThreads = 128;

template <int V, typename Terms>
__global__ void __launch_bounds__(kColumnThreads)
    column_partials_kernel(float* partials, Terms terms, std::int64_t rows, std::int64_t width) {
  const std::int64_t c = (std::int64_t{blockIdx.x} * kColumnThreads + threadIdx.x) * V;
  if (c >= width) return;
  const std::int64_t begin = std::int64_t{blockIdx.y} * kPartialRows;
  const std::int64_t end = begin + kPartialRows < rows ? begin + kPartialRows : rows;
  float sum[V], term[V];
#pragma unroll
  for (int j = 0; j < V; ++j) sum[j] = 0.0f;
#pragma unroll 4
  for (std::int64_t t = begin; t < end; ++t) {
    terms.template term<V>(term, t, t * width + c);
#pragma unroll
    for (int j = 0; j < V; ++j) sum[j] += term[j];
  }
  store<V>(partials + std::int64_t{blockIdx.y} * width + c, sum);
}

static __global__ void __launch_bounds__(kColumnThreads)
    add_partials_kernel(float* sum, const float* partials, std::int64_t parts, std::int64_t width) {
  const std::int64_t c = std::int64_t{blockIdx.x} * kColumnThreads + threadIdx.x;
  if (c >= width) return;
  float total = sum[c];
#pragma unroll 8
  for (std::int64_t p = 0; p < parts; ++p) total += partials[p * width + c];
  sum[c] = total;
}

// sum (width) f32 += the partial sums of 64 rows each, in the order of the rows, added in order.
// terms.term<V>(out, row, at): the terms of V columns from element `at` of the row on. partials:
// ceil(rows / 64) * width float32 of scratch.
template <typename Terms>
cudaError_t sum_columns(cudaStream_t stream, float* sum, Terms terms, std::int64_t rows,
                        std::int64_t width, float* partials) {
  if (rows == 0 || width == 0) return cudaSuccess;
  const auto blocks = [](std::int64_t units) {
    return static_cast<unsigned>((units + kColumnThreads - 1) / kColumnThreads);
  };
  const std::int64_t parts = (rows + kPartialRows - 1) / kPartialRows;
  const auto height = static_cast<unsigned>(parts);
  if (width % 8 == 0) {
    const dim3 grid(blocks(width / 8), height);
    column_partials_kernel<8><<<grid, kColumnThreads, 0, stream>>>(partials, terms, rows, width);
  } else {
    const dim3 grid(blocks(width), height);
    column_partials_kernel<1><<<grid, kColumnThreads, 0, stream>>>(partials, terms, rows, width);
  }
  const cudaError_t code = cudaGetLastError();
  if (code != cudaSuccess) return code;
  add_partials_kernel<<<blocks(width), kColumnThreads, 0, stream>>>(sum, partials, parts, width);
  return cudaGetLastError();
}

}  // namespace qgrpo::cuda::kernels
