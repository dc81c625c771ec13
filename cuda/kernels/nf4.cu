// NF4 to bf16: out = bf16(code[index] * absmax'), absmax' = float(map[q] * nested) + offset.
//
// Shapes: any matrix; it is taken as one row of rows * cols elements, as the format does.
// Launch: blocks of 256 threads, a thread 32 elements: 16 bytes in, 64 out, all of one block of 64.
//
// Bytes: 0.516 in and 2 out a weight: 2.5 bytes. A 2048 x 11008 matrix moves 57 MB, 0.19 ms on an
// L4, 0.04 ms on an A100; it is done once for all rows of a micro-batch. A warp has 512 bytes of
// reads in flight, 8 blocks on an SM 32 KB. Instructions: 3.9 a weight for look-up, product and
// conversion, 33 weights a clock and SM; DRAM's time allows 2 (L4) and 4 (A100). Registers and
// shared memory (ptxas, sm_80 and sm_89, no spills): 39, 4 KB. No bank conflicts: a lane has its
// own copy of the codes. Tried: a table from a byte to two codes, 2.5 instructions a weight, whose
// 8-byte look-ups collide (3.8 replays each).

#include "cuda/kernels/nf4.cuh"

namespace qgrpo::cuda::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kEach = 32;

__global__ void __launch_bounds__(kThreads) nf4_dequantize_kernel(bf16* out, Nf4View w) {
  __shared__ Nf4Table table;
  table.fill<kThreads>(w.map);
  __syncthreads();
  const unsigned lane_offset = 4 * (threadIdx.x % kWarp);
  const std::int64_t chunk = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t begin = chunk * kEach;
  const std::int64_t n = w.rows * w.cols;
  if (begin >= n) return;
  const uint4 raw = w.packed[chunk];
  const float scale = block_scale(w, begin / 64);
  const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
  unsigned pairs[16];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    unsigned of_word[4];
    dequantize_word(of_word, table, words[i], scale, lane_offset);
#pragma unroll
    for (int j = 0; j < 4; ++j) pairs[4 * i + j] = of_word[j];
  }
  if (begin + kEach <= n) {
    uint4* to = reinterpret_cast<uint4*>(out + begin);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      to[i] = make_uint4(pairs[4 * i], pairs[4 * i + 1], pairs[4 * i + 2], pairs[4 * i + 3]);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const auto bits = static_cast<unsigned short>(pairs[i / 2] >> (16 * (i % 2)));
    if (begin + i < n) out[begin + i] = __ushort_as_bfloat16(bits);
  }
}

}  // namespace

cudaError_t nf4_dequantize(cudaStream_t stream, bf16* out, const Nf4View& weight) {
  const std::int64_t chunks = (weight.rows * weight.cols + kEach - 1) / kEach;
  if (chunks == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>((chunks + kThreads - 1) / kThreads);
  nf4_dequantize_kernel<<<blocks, kThreads, 0, stream>>>(out, weight);
  return cudaGetLastError();
}

}  // namespace qgrpo::cuda::kernels
