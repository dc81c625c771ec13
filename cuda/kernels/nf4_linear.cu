// The product of a few rows with an NF4 matrix, fused with dequantization, bias and low-rank term:
//
//   y (=|+=) x W^T + bias + t B^T,   t = bf16(scale * x A^T)
//
// Shapes: x (m, K), y (m, N) bf16, m <= 16; W (N, K) NF4, K a multiple of 32; A (R, K), B (N, R).
// Launch: a block of 8 warps makes 8 * NT outputs of all rows, NT = 1, 2 or 4: the largest that
// still gives two blocks an SM. The warps share K in steps of 128 (warp w takes the steps w, w + 8,
// ...) and their sums are added in the warps' order, so an output's bits depend on K alone.
//
// Tensor cores: the k index of a product may be permuted at will, if A and B are permuted alike. A
// lane (g, t) takes 32 neighbouring k of output row g, at 32 t of the step: one 16-byte load is the
// B operand of 8 m16n8k16 products, and the x of these products lie in 64 contiguous bytes a row.
// No repacking, and no shared memory but for the code table and the final sum. 32 neighbouring
// weights share one scale.
//
// Bytes: W once, 0.516 a weight: 3B's gate (11008 x 2048) 11.6 MB, 39 us on an L4. x is read from
// L2 by every block: m * K * 2 bytes against 8 NT * K / 2 of weights, 2 to 1 with m = 16, NT = 4:
// below L2's advantage over DRAM on both cards. In flight: NT * 512 bytes a warp, 16 KB a block of
// 8 warps at NT = 4. Instructions: 2 issue slots a weight (look-up and multiply, half a conversion
// each), and one product for 32 * 4 weights. Registers at NT = 4 (ptxas, no spills): 102 on sm_80,
// 84 on sm_89: 2 and 3 blocks on an SM. The low-rank term adds R products a output in the epilogue:
// 6 % of K = 2048 for R = 64.

#include "cuda/kernels/mma.cuh"
#include "cuda/kernels/nf4.cuh"

namespace qgrpo::cuda::kernels {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kStep = 128;  // k of one step of a warp: 4 lanes with 32 each
constexpr int kDownWarps = 4;

struct Args {
  bf16* y;
  const bf16* x;
  int m;
  Nf4View weight;
  const float* bias;
  LowRank low_rank;
  bool accumulate;
};

// x[row][k .. k + 8), zeros for rows that are not there.
__device__ uint4 load_x(const Args& p, int row, std::int64_t k) {
  if (row >= p.m || k >= p.weight.cols) return make_uint4(0, 0, 0, 0);
  return *reinterpret_cast<const uint4*>(p.x + row * p.weight.cols + k);
}

template <int NT>
__global__ void __launch_bounds__(kThreads) nf4_linear_kernel(Args p) {
  constexpr int kOutputs = 8 * NT;
  __shared__ float2 table[256];
  __shared__ float partial[kWarps][kNf4LinearRows][kOutputs];
  fill_code_table(table);
  __syncthreads();

  const int warp = threadIdx.x / kWarp;
  const int g = threadIdx.x % kWarp / 4;
  const int t = threadIdx.x % 4;
  const std::int64_t first_output = std::int64_t{blockIdx.x} * kOutputs;
  const std::int64_t cols = p.weight.cols;
  float sum[NT][4] = {};
  for (std::int64_t base = warp * kStep; base < cols; base += kWarps * kStep) {
    const std::int64_t k = base + 32 * t;
    uint4 raw[NT];
    float scale[NT];
#pragma unroll
    for (int j = 0; j < NT; ++j) {
      const std::int64_t n = first_output + 8 * j + g;
      const bool there = k < cols && n < p.weight.rows;
      const std::int64_t element = n * cols + k;
      raw[j] = there ? p.weight.packed[element / 32] : make_uint4(0, 0, 0, 0);
      scale[j] = there ? block_scale(p.weight, element / 64) : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {  // 8 of the lane's 32 k: two products
      const uint4 low = load_x(p, g, k + 8 * i);
      const uint4 high = load_x(p, g + 8, k + 8 * i);
      const unsigned first[4] = {low.x, high.x, low.y, high.y};
      const unsigned second[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
      for (int j = 0; j < NT; ++j) {
        const unsigned words[4] = {raw[j].x, raw[j].y, raw[j].z, raw[j].w};
        unsigned b[4];
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          b[n] = dequantize_byte(table, words[i] >> (8 * n) & 0xffu, scale[j]);
        }
        mma_bf16(sum[j], first, b[0], b[1]);
        mma_bf16(sum[j], second, b[2], b[3]);
      }
    }
  }
#pragma unroll
  for (int j = 0; j < NT; ++j) {
#pragma unroll
    for (int c = 0; c < 4; ++c) partial[warp][g + 8 * (c / 2)][8 * j + 2 * t + c % 2] = sum[j][c];
  }
  __syncthreads();

  for (int e = threadIdx.x; e < kNf4LinearRows * kOutputs; e += kThreads) {
    const int row = e / kOutputs;
    const std::int64_t n = first_output + e % kOutputs;
    if (row >= p.m || n >= p.weight.rows) continue;
    float value = 0.0f;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) value += partial[w][row][e % kOutputs];
    float low_rank = 0.0f;
    for (int r = 0; r < p.low_rank.rank; ++r) {
      const float b = __bfloat162float(__float2bfloat16_rn(p.low_rank.b[n * p.low_rank.rank + r]));
      low_rank += __bfloat162float(p.low_rank.t[row * p.low_rank.rank + r]) * b;
    }
    value += low_rank;
    if (p.bias != nullptr) value += p.bias[n];
    bf16* out = p.y + row * p.weight.rows + n;
    if (p.accumulate) value += __bfloat162float(*out);
    *out = __float2bfloat16_rn(value);
  }
}

// A block a rank index: 4 warps share K, each keeps the sums of all rows.
__global__ void __launch_bounds__(kDownWarps* kWarp)
    low_rank_down_kernel(bf16* t, const bf16* x, const float* a, float scale, int m, int rank,
                         int cols) {
  __shared__ float partial[kDownWarps][kNf4LinearRows];
  const int r = blockIdx.x;
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  float sum[kNf4LinearRows] = {};
  for (int k = threadIdx.x; k < cols; k += kDownWarps * kWarp) {
    const float factor = __bfloat162float(__float2bfloat16_rn(a[std::int64_t{r} * cols + k]));
#pragma unroll
    for (int row = 0; row < kNf4LinearRows; ++row) {
      if (row < m) sum[row] += __bfloat162float(x[std::int64_t{row} * cols + k]) * factor;
    }
  }
#pragma unroll
  for (int row = 0; row < kNf4LinearRows; ++row) {
    const float whole = warp_sum(sum[row]);
    if (lane == 0) partial[warp][row] = whole;
  }
  __syncthreads();
  const int row = threadIdx.x;
  if (row >= m) return;
  float whole = 0.0f;
#pragma unroll
  for (int w = 0; w < kDownWarps; ++w) whole += partial[w][row];
  t[row * rank + r] = __float2bfloat16_rn(scale * whole);
}

template <int NT>
cudaError_t launch(cudaStream_t stream, const Args& p) {
  const auto blocks = static_cast<unsigned>((p.weight.rows + 8 * NT - 1) / (8 * NT));
  nf4_linear_kernel<NT><<<blocks, kThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace

cudaError_t nf4_linear(cudaStream_t stream, bf16* y, const bf16* x, std::int64_t m,
                       const Nf4View& weight, const float* bias, const LowRank& low_rank,
                       bool accumulate, int processors) {
  if (m == 0 || weight.rows == 0) return cudaSuccess;
  const Args p{y, x, static_cast<int>(m), weight, bias, low_rank, accumulate};
  const std::int64_t enough = 2 * std::int64_t{processors};
  if (weight.rows / 32 >= enough) return launch<4>(stream, p);
  if (weight.rows / 16 >= enough) return launch<2>(stream, p);
  return launch<1>(stream, p);
}

cudaError_t low_rank_down(cudaStream_t stream, bf16* t, const bf16* x, const float* a, float scale,
                          std::int64_t m, std::int64_t rank, std::int64_t cols) {
  if (m == 0 || rank == 0) return cudaSuccess;
  low_rank_down_kernel<<<static_cast<unsigned>(rank), kDownWarps * kWarp, 0, stream>>>(
      t, x, a, scale, static_cast<int>(m), static_cast<int>(rank), static_cast<int>(cols));
  return cudaGetLastError();
}

}  // namespace qgrpo::cuda::kernels
