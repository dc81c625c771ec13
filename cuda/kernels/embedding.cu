// Operators that move whole rows: embedding and gather, scatter with sums.
//
// gather   out[i] = x[rows[i]]                    a block a row, 16 bytes a thread and step
// scatter  x[row[j]] += its values, in order      a block a distinct row: no two blocks meet
//
// Bytes: gather reads and writes 2 H a row each; scatter reads 2 H a value. Both are bound by DRAM;
// a block of 128 threads moves a row of H = 2048 (4 KB) in two steps. Into float32 (the embedding's
// gradient) scatter also reads and writes 4 H a distinct row. A row's values are added by one block
// in order, so a token that is everywhere is a chain of reads: 8192 of one token take 8192 steps of
// about 600 ns at worst, unrolled by 4 a millisecond; texts have a few hundred. ptxas (sm_80,
// sm_89): gather 30 and 32 registers, scatter 40 and 40 (float32: 32 and 40); no shared memory, no
// spills.

#include "cuda/kernels/common/pack.cuh"
#include "cuda/kernels/embedding.h"

namespace qgrpo::cuda::kernels {
namespace {

constexpr int kRowThreads = 128;

template <typename Unit>
__global__ void __launch_bounds__(kRowThreads)
    gather_rows_kernel(Unit* out, const Unit* x, const std::int32_t* rows, int units) {
  const std::int64_t i = blockIdx.x;
  const Unit* from = x + std::int64_t{rows[i]} * units;
  Unit* to = out + i * units;
  for (int u = threadIdx.x; u < units; u += kRowThreads) to[u] = from[u];
}

template <int V, typename T>
__global__ void __launch_bounds__(kRowThreads)
    scatter_add_rows_kernel(T* x, const bf16* values, const std::int32_t* row,
                            const std::int32_t* first, const std::int32_t* index, int width) {
  const int j = blockIdx.x;
  T* target = x + std::int64_t{row[j]} * width;
  const int begin = first[j];
  const int end = first[j + 1];
  for (int c = threadIdx.x * V; c < width; c += kRowThreads * V) {
    float sum[V], value[V];
    load<V>(sum, target + c);
    for (int i = begin; i < end; ++i) {
      load<V>(value, values + std::int64_t{index[i]} * width + c);
#pragma unroll
      for (int n = 0; n < V; ++n) sum[n] += value[n];
    }
    store<V>(target + c, sum);
  }
}

}  // namespace

cudaError_t gather_rows(cudaStream_t stream, bf16* out, const bf16* x, const std::int32_t* rows,
                        std::int64_t count, std::int64_t width) {
  if (count == 0 || width == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>(count);
  if (width % 8 == 0) {
    gather_rows_kernel<<<blocks, kRowThreads, 0, stream>>>(reinterpret_cast<uint4*>(out),
                                                           reinterpret_cast<const uint4*>(x), rows,
                                                           static_cast<int>(width / 8));
  } else {
    gather_rows_kernel<<<blocks, kRowThreads, 0, stream>>>(out, x, rows, static_cast<int>(width));
  }
  return cudaGetLastError();
}

template <typename T>
cudaError_t scatter_add_rows(cudaStream_t stream, T* x, const bf16* values, const std::int32_t* row,
                             const std::int32_t* first, const std::int32_t* index,
                             std::int64_t distinct, std::int64_t width) {
  if (distinct == 0 || width == 0) return cudaSuccess;
  const auto kernel =
      width % 8 == 0 ? scatter_add_rows_kernel<8, T> : scatter_add_rows_kernel<1, T>;
  kernel<<<static_cast<unsigned>(distinct), kRowThreads, 0, stream>>>(x, values, row, first, index,
                                                                      static_cast<int>(width));
  return cudaGetLastError();
}
template cudaError_t scatter_add_rows(cudaStream_t, bf16*, const bf16*, const std::int32_t*,
                                      const std::int32_t*, const std::int32_t*, std::int64_t,
                                      std::int64_t);
template cudaError_t scatter_add_rows(cudaStream_t, float*, const bf16*, const std::int32_t*,
                                      const std::int32_t*, const std::int32_t*, std::int64_t,
                                      std::int64_t);

}  // namespace qgrpo::cuda::kernels
