// Operators that move or turn whole rows: embedding and gather, scatter with sums, RoPE.
//
// gather   out[i] = x[rows[i]]                    a block a row, 16 bytes a thread and step
// scatter  x[row[j]] += its values, in order      a block a distinct row: no two blocks meet
// rope     pairs (i, i + D/2) turned in place     a thread two neighbouring pairs, 4-byte accesses
//
// Bytes: gather reads and writes 2 H a row each; scatter reads 2 H a value; rope reads and writes
// 2 bytes an element, and 8 bytes of table a pair, shared by all heads of the token (from L1). All
// are bound by DRAM; a block of 128 threads moves a row of H = 2048 (4 KB) in two steps. Into
// float32 (the embedding's gradient) scatter also reads and writes 4 H a distinct row. A row's
// values are added by one block in order, so a token that is everywhere is a chain of reads: 8192
// of one token take 8192 steps of about 600 ns at worst, unrolled by 4 a millisecond; texts have a
// few hundred. ptxas (sm_80, sm_89): gather 30 and 32 registers, scatter 40 and 40 (float32: 32 and
// 40), rope 24 and 24; no shared memory, no spills.

#include "cuda/kernels/pack.cuh"
#include "cuda/kernels/rope.cuh"
#include "cuda/kernels/rows.h"

namespace qgrpo::cuda::kernels {
namespace {

constexpr int kRowThreads = 128;
constexpr int kRopeThreads = 256;

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

__global__ void __launch_bounds__(kRopeThreads)
    rope_kernel(bf16* x, const float2* table, const std::int32_t* positions, std::int64_t pairs,
                int heads, int half, float sign) {
  const std::int64_t unit = std::int64_t{blockIdx.x} * kRopeThreads + threadIdx.x;
  if (2 * unit >= pairs) return;
  const int i = static_cast<int>(2 * unit % half);
  const std::int64_t head = 2 * unit / half;  // over all tokens
  const float2* turn = table + std::int64_t{positions[head / heads]} * half + i;
  bf16* low = x + head * 2 * half + i;
  float a[2], b[2], first[2], second[2];
  load<2>(a, low);
  load<2>(b, low + half);
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    const float2 by = turned(a[n], b[n], turn[n].x, turn[n].y * sign);
    first[n] = by.x;
    second[n] = by.y;
  }
  store<2>(low, first);
  store<2>(low + half, second);
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

cudaError_t rope(cudaStream_t stream, bf16* x, const float2* table, const std::int32_t* positions,
                 std::int64_t tokens, std::int64_t heads, std::int64_t dim, float sign) {
  const std::int64_t pairs = tokens * heads * (dim / 2);
  if (pairs == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>((pairs / 2 + kRopeThreads - 1) / kRopeThreads);
  rope_kernel<<<blocks, kRopeThreads, 0, stream>>>(
      x, table, positions, pairs, static_cast<int>(heads), static_cast<int>(dim / 2), sign);
  return cudaGetLastError();
}

}  // namespace qgrpo::cuda::kernels
