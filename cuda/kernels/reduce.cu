// Sums over the tokens of a batch, and sums of squares.
//
//   columns  sum_c += sum_t x[t, c], or sum_t dy[t, c] x[t, c] rstd[t]
//   squares  sum_i x_i^2 in double, of many tensors at once
//
// Launch: columns: a block of 128 threads takes 64 rows, a thread 8 neighbouring columns (16-byte
// loads; one column where the width is no multiple of 8), then a thread a column adds the partial
// sums. Squares: 8 threads a chunk of 4096 elements, 32 chunks a block of 256; then a thread a
// tensor adds its chunks. No shared memory.
// ptxas (sm_80, sm_89): columns 32 and 40 registers, with the norm 38 and 40, their sums 30 and 30;
// squares 29 and 28, their sums 29 and 32; no spills.
//
// Bytes: columns read 2 (dweight: 4) bytes an element once, and write and read 4/64 of a byte for
// it. At T = 8192 and N = 2048 they are 128 x 2 blocks of 4 warps with 512 bytes each in flight for
// every row of the unrolled loop (4): about 9 KB per SM of an L4. Squares read 4 bytes an element;
// 8 neighbouring threads read one 32-byte sector, so each sector is fetched once, and 8 unrolled
// loads keep 32 bytes a thread in flight, 64 KB per SM. An element is one conversion and one
// multiply-add in double: an L4 does 2 of each a clock and SM, 8 bytes a clock, 3 times DRAM's
// rate; the square of a float32 is exact in double, so the fused operation has the bits of the two.
// A thread that adds chunks has them in order: 32 for a LoRA factor of 64 x 2048, 33,000 for a
// trained embedding of 151,936 x 896, well below a millisecond.

#include "cuda/kernels/pack.cuh"
#include "cuda/kernels/reduce.h"

namespace qgrpo::cuda::kernels {
namespace {

constexpr int kColumnThreads = 128;
constexpr int kSquareThreads = 256;
constexpr int kLanes = 8;  // of a chunk

struct Plain {
  const bf16* x;
  template <int V>
  __device__ void term(float (&out)[V], std::int64_t, std::int64_t at) const {
    load<V>(out, x + at);
  }
};

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

template <int V, typename Terms>
__global__ void __launch_bounds__(kColumnThreads)
    column_partials_kernel(float* partials, Terms terms, std::int64_t rows, std::int64_t width) {
  const std::int64_t c = (std::int64_t{blockIdx.x} * kColumnThreads + threadIdx.x) * V;
  if (c >= width) return;
  const std::int64_t begin = std::int64_t{blockIdx.y} * kSumRows;
  const std::int64_t end = begin + kSumRows < rows ? begin + kSumRows : rows;
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

__global__ void __launch_bounds__(kColumnThreads)
    add_partials_kernel(float* sum, const float* partials, std::int64_t parts, std::int64_t width) {
  const std::int64_t c = std::int64_t{blockIdx.x} * kColumnThreads + threadIdx.x;
  if (c >= width) return;
  float total = sum[c];
#pragma unroll 8
  for (std::int64_t p = 0; p < parts; ++p) total += partials[p * width + c];
  sum[c] = total;
}

template <typename Terms>
cudaError_t sum_columns(cudaStream_t stream, float* sum, Terms terms, std::int64_t rows,
                        std::int64_t width, float* partials) {
  if (rows == 0 || width == 0) return cudaSuccess;
  const auto blocks = [](std::int64_t units) {
    return static_cast<unsigned>((units + kColumnThreads - 1) / kColumnThreads);
  };
  const std::int64_t parts = (rows + kSumRows - 1) / kSumRows;
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

__global__ void __launch_bounds__(kSquareThreads)
    square_partials_kernel(double* partials, const SquaresTensor* tensors, int count,
                           std::int64_t chunks) {
  const std::int64_t chunk = (std::int64_t{blockIdx.x} * kSquareThreads + threadIdx.x) / kLanes;
  const int lane = threadIdx.x % kLanes;
  double sum = 0.0;
  if (chunk < chunks) {
    int low = 0;  // the last tensor that begins at or before the chunk
    for (int high = count; high - low > 1;) {
      const int middle = (low + high) / 2;
      (tensors[middle].first_chunk <= chunk ? low : high) = middle;
    }
    const std::int64_t begin = (chunk - tensors[low].first_chunk) * kSquareChunk;
    const std::int64_t left = tensors[low].n - begin;
    const int size = static_cast<int>(left < kSquareChunk ? left : kSquareChunk);
    const float* x = tensors[low].x + begin;
#pragma unroll 8
    for (int i = lane; i < size; i += kLanes) {
      const double d = static_cast<double>(x[i]);
      sum = __fma_rn(d, d, sum);
    }
  }
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) {
    sum += __shfl_xor_sync(kAllLanes, sum, step);
  }
  if (chunk < chunks && lane == 0) partials[chunk] = sum;
}

__global__ void __launch_bounds__(kSquareThreads)
    add_squares_kernel(double* sums, const double* partials, const SquaresTensor* tensors,
                       int count) {
  const int i = blockIdx.x * kSquareThreads + threadIdx.x;
  if (i >= count) return;
  const double* from = partials + tensors[i].first_chunk;
  const std::int64_t chunks = (tensors[i].n + kSquareChunk - 1) / kSquareChunk;
  double total = 0.0;
#pragma unroll 8
  for (std::int64_t c = 0; c < chunks; ++c) total += from[c];
  sums[i] = total;
}

}  // namespace

cudaError_t column_sums(cudaStream_t stream, float* sum, const bf16* x, std::int64_t rows,
                        std::int64_t width, float* partials) {
  return sum_columns(stream, sum, Plain{x}, rows, width, partials);
}

cudaError_t rmsnorm_dweight(cudaStream_t stream, float* dweight, const bf16* dy, const bf16* x,
                            const float* rstd, std::int64_t rows, std::int64_t width,
                            float* partials) {
  return sum_columns(stream, dweight, Normed{dy, x, rstd}, rows, width, partials);
}

cudaError_t squares(cudaStream_t stream, double* sums, const SquaresTensor* tensors, int count,
                    std::int64_t chunks, double* partials) {
  if (count == 0) return cudaSuccess;
  if (chunks > 0) {
    constexpr std::int64_t kEach = kSquareThreads / kLanes;
    const auto blocks = static_cast<unsigned>((chunks + kEach - 1) / kEach);
    square_partials_kernel<<<blocks, kSquareThreads, 0, stream>>>(partials, tensors, count, chunks);
    const cudaError_t code = cudaGetLastError();
    if (code != cudaSuccess) return code;
  }
  const auto blocks = static_cast<unsigned>((count + kSquareThreads - 1) / kSquareThreads);
  add_squares_kernel<<<blocks, kSquareThreads, 0, stream>>>(sums, partials, tensors, count);
  return cudaGetLastError();
}

}  // namespace qgrpo::cuda::kernels
