// RoPE: pairs (i, i + D/2) turned in place, a thread two neighbouring pairs, 4-byte accesses.
//
// Bytes: 2 read and 2 written an element, and 8 of table a pair, shared by all heads of the token
// (from L1): bound by DRAM. ptxas (sm_80, sm_89): 24 and 24 registers; no shared memory, no spills.

#include "cuda/kernels/common/pack.cuh"
#include "cuda/kernels/rope.cuh"
#include "cuda/kernels/rope.h"

namespace qgrpo::cuda::kernels {
namespace {

constexpr int kRopeThreads = 256;

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
