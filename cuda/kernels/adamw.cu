// AdamW with 32-bit and with 8-bit block-wise moments, and sums of squares.
//
//   g = grad * grad_scale
//   m = m beta1 + (1 - beta1) g,   v = v beta2 + ((1 - beta2) g) g
//   p = p decay + (step m) / (sqrt(v) / correction2 + eps)
//
// Shapes: p, grad (n) f32; moments (n) f32, or u8 with an absmax for each 256 (f32).
// Launch: 32 bits: blocks of 256, a thread 4 neighbouring elements. 8 bits: blocks of 256 = 8
// warps, a warp takes a block of 256 elements and goes on by the grid's stride, so that the tables
// are copied to shared memory once a block; a lane has two groups of 4 neighbours, 128 apart.
// ptxas: 8 bits 64 registers and 4096 bytes of shared memory on sm_80 and sm_89 (4 blocks on an
// SM), 32 bits 37 registers and none; no spills.
//
// Each operation is rounded by itself (__fmul_rn and its like are never fused), in the order of the
// CPU's loop, so both backends' optimizers stay bit-equal.
//
// Bytes: 32 bits: 28 an element. 8 bits: 16.03 (p read and written, grad read, two codes read and
// written, two scales for 256), the least there is: 4.1 KB for a warp's turn. At DRAM's rate an SM
// of an L4 gets 2.6 bytes a clock, of an A100 10.2: 1580 and 400 clocks a turn. A lane has 80 bytes
// of reads in flight, a warp 2.5 KB: 4 warps are enough for an A100's 8.6 KB, 32 are there.
// Each request of a warp is a row of whole sectors: 512 bytes of p and grad, 128 of codes. (With 8
// neighbours a lane every float sector was asked for twice: 1.6 times the sectors, now 1.0.)
// Instructions of a turn, by warp: about 1150 in PTX by the software GPU's count, most of them the
// 16 searches of 8 steps: about 290 clocks of an SM's four schedulers, below DRAM's time. Shared
// memory of a turn: 144 requests, 23 % more wavefronts for conflicts (the software GPU's count,
// moments over many magnitudes). In level order, levels 0 to 5 of a search lie in different banks
// or are one word; only the last two, of 64 and 128 words, collide. A sorted array would be
// searched at strides of powers of two, whose middle levels lie in one bank.
//
// Squares: sum_i x_i^2 in double, of many tensors at once. 8 threads a chunk of 4096 elements, 32
// chunks a block of 256; then a thread a tensor adds its chunks. No shared memory; 29 and 28
// registers, their sums 29 and 32. They read 4 bytes an element; 8 neighbouring threads read one
// 32-byte sector, so each sector is fetched once, and 8 unrolled loads keep 32 bytes a thread in
// flight, 64 KB per SM. An element is one conversion and one multiply-add in double: an L4 does 2
// of each a clock and SM, 8 bytes a clock, 3 times DRAM's rate; the square of a float32 is exact in
// double, so the fused operation has the bits of the two. A thread that adds chunks has them in
// order: 32 for a LoRA factor of 64 x 2048, 33,000 for a trained embedding of 151,936 x 896, well
// below a millisecond.

#include "cuda/kernels/adamw.h"
#include "cuda/kernels/common/pack.cuh"

namespace qgrpo::cuda::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kBlock = 256;            // elements with one absmax
constexpr int kEach = kBlock / kWarp;  // of a lane
constexpr int kStride = 4 * kWarp;     // between its groups of 4
constexpr int kWarps = kThreads / kWarp;
constexpr int kBlocksPerProcessor = 4;  // all that fit at 64 registers
constexpr int kSquareThreads = 256;
constexpr int kLanes = 8;  // of a chunk of squares

__device__ inline void update(float& p, float& m, float& v, float grad,
                              const AdamWCoefficients& c) {
  const float g = __fmul_rn(grad, c.grad_scale);
  m = __fadd_rn(__fmul_rn(m, c.beta1), __fmul_rn(c.one_minus_beta1, g));
  v = __fadd_rn(__fmul_rn(v, c.beta2), __fmul_rn(__fmul_rn(c.one_minus_beta2, g), g));
  const float denominator = __fadd_rn(__fdiv_rn(__fsqrt_rn(v), c.sqrt_bias_correction2), c.eps);
  p = __fadd_rn(__fmul_rn(p, c.decay), __fdiv_rn(__fmul_rn(c.negative_step, m), denominator));
}

__global__ void __launch_bounds__(kThreads)
    adamw_32bit_kernel(float* param, float* m, float* v, const float* grad, std::int64_t n,
                       AdamWCoefficients c) {
  const std::int64_t i = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * 4;
  if (i + 4 <= n) {
    float4 p4 = *reinterpret_cast<const float4*>(param + i);
    float4 m4 = *reinterpret_cast<const float4*>(m + i);
    float4 v4 = *reinterpret_cast<const float4*>(v + i);
    const float4 g4 = *reinterpret_cast<const float4*>(grad + i);
    update(p4.x, m4.x, v4.x, g4.x, c);
    update(p4.y, m4.y, v4.y, g4.y, c);
    update(p4.z, m4.z, v4.z, g4.z, c);
    update(p4.w, m4.w, v4.w, g4.w, c);
    *reinterpret_cast<float4*>(param + i) = p4;
    *reinterpret_cast<float4*>(m + i) = m4;
    *reinterpret_cast<float4*>(v + i) = v4;
    return;
  }
  for (std::int64_t j = i; j < n; ++j) update(param[j], m[j], v[j], grad[j], c);
}

// A lane's values: groups of 4 neighbours, 128 apart, from i on; zeros beyond n, which a whole
// block does not reach.
template <bool whole>
__device__ inline void load_some(float (&x)[kEach], const float* p, std::int64_t i,
                                 std::int64_t n) {
#pragma unroll
  for (int g = 0; g < kEach; g += 4, i += kStride) {
    if constexpr (whole) {
      const float4 four = *reinterpret_cast<const float4*>(p + i);
      x[g] = four.x, x[g + 1] = four.y, x[g + 2] = four.z, x[g + 3] = four.w;
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j) x[g + j] = i + j < n ? p[i + j] : 0.0f;
    }
  }
}

template <bool whole>
__device__ inline void store_some(float* p, const float (&x)[kEach], std::int64_t i,
                                  std::int64_t n) {
#pragma unroll
  for (int g = 0; g < kEach; g += 4, i += kStride) {
    if constexpr (whole) {
      // nvcc takes a plain store apart into four.
      __stcg(reinterpret_cast<float4*>(p + i), make_float4(x[g], x[g + 1], x[g + 2], x[g + 3]));
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (i + j < n) p[i + j] = x[g + j];
      }
    }
  }
}

// The same of moments, from their codes.
template <bool whole>
__device__ inline void load_moments(float (&x)[kEach], const std::uint8_t* codes, float absmax,
                                    const float* map, std::int64_t i, std::int64_t n) {
#pragma unroll
  for (int g = 0; g < kEach; g += 4, i += kStride) {
    if constexpr (whole) {
      const unsigned word = *reinterpret_cast<const unsigned*>(codes + i);
#pragma unroll
      for (int j = 0; j < 4; ++j) x[g + j] = __fmul_rn(map[word >> (8 * j) & 0xffu], absmax);
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        x[g + j] = i + j < n ? __fmul_rn(map[codes[i + j]], absmax) : 0.0f;
      }
    }
  }
}

// The largest magnitude over the warp's 256 values; values that are not numbers don't count.
__device__ inline float block_absmax(const float (&x)[kEach]) {
  float largest = 0.0f;
#pragma unroll
  for (int j = 0; j < kEach; ++j) largest = fmaxf(largest, fabsf(x[j]));
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, step));
  }
  return largest;
}

__device__ inline unsigned nearest_code(float x, const float* tree) {
  unsigned k = 1;
#pragma unroll
  for (int level = 0; level < 8; ++level) k = 2 * k + (x <= tree[k] ? 0u : 1u);
  return k - 256;
}

template <bool whole>
__device__ inline void store_moments(std::uint8_t* codes, const float (&x)[kEach], float absmax,
                                     const float* tree, std::int64_t i, std::int64_t n) {
  const float scale = absmax > 0.0f ? absmax : 1.0f;
#pragma unroll
  for (int g = 0; g < kEach; g += 4, i += kStride) {
    unsigned word = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      word |= nearest_code(__fdiv_rn(x[g + j], scale), tree) << (8 * j);
    }
    if constexpr (whole) {
      *reinterpret_cast<unsigned*>(codes + i) = word;
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (i + j < n) codes[i + j] = static_cast<std::uint8_t>(word >> (8 * j) & 0xffu);
      }
    }
  }
}

struct State8bit {
  float* param;
  std::uint8_t* m;
  std::uint8_t* v;
  float* absmax_m;
  float* absmax_v;
  const float* grad;
  std::int64_t n;
};

// A warp's turn: one block of 256 elements, of which only the tensor's last may be short.
template <bool whole>
__device__ inline void update_block(const State8bit& s, std::int64_t block,
                                    const AdamWCoefficients& c, const DynamicMaps& tables) {
  const int lane = threadIdx.x % kWarp;
  const std::int64_t i = block * kBlock + lane * 4;
  float ps[kEach], gs[kEach], ms[kEach], vs[kEach];
  load_some<whole>(ps, s.param, i, s.n);
  load_some<whole>(gs, s.grad, i, s.n);
  load_moments<whole>(ms, s.m, s.absmax_m[block], tables.signed_map, i, s.n);
  load_moments<whole>(vs, s.v, s.absmax_v[block], tables.unsigned_map, i, s.n);
#pragma unroll
  for (int j = 0; j < kEach; ++j) update(ps[j], ms[j], vs[j], gs[j], c);
  store_some<whole>(s.param, ps, i, s.n);
  const float largest_m = block_absmax(ms);
  const float largest_v = block_absmax(vs);
  store_moments<whole>(s.m, ms, largest_m, tables.signed_tree, i, s.n);
  store_moments<whole>(s.v, vs, largest_v, tables.unsigned_tree, i, s.n);
  if (lane == 0) {  // all lanes have read the old ones: the shuffles above waited for them
    s.absmax_m[block] = largest_m;
    s.absmax_v[block] = largest_v;
  }
}

// Four blocks a multiprocessor, 64 registers: unasked, ptxas takes them too and spills from sm_90 on.
__global__ void __launch_bounds__(kThreads, 4)
    adamw_8bit_kernel(State8bit s, AdamWCoefficients c, const DynamicMaps* maps) {
  __shared__ DynamicMaps tables;
  constexpr int kWords = sizeof(DynamicMaps) / sizeof(float);
  for (int i = threadIdx.x; i < kWords; i += kThreads) {
    reinterpret_cast<float*>(&tables)[i] = reinterpret_cast<const float*>(maps)[i];
  }
  __syncthreads();
  std::int64_t block = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  for (; block < s.n / kBlock; block += std::int64_t{gridDim.x} * kWarps) {
    update_block<true>(s, block, c, tables);
  }
  if (block == s.n / kBlock && s.n % kBlock != 0) update_block<false>(s, block, c, tables);
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

cudaError_t adamw_32bit(cudaStream_t stream, float* param, float* m, float* v, const float* grad,
                        std::int64_t n, const AdamWCoefficients& c) {
  if (n == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>((n + 4 * kThreads - 1) / (4 * kThreads));
  adamw_32bit_kernel<<<blocks, kThreads, 0, stream>>>(param, m, v, grad, n, c);
  return cudaGetLastError();
}

cudaError_t adamw_8bit(cudaStream_t stream, float* param, std::uint8_t* m, std::uint8_t* v,
                       float* absmax_m, float* absmax_v, const float* grad, std::int64_t n,
                       const AdamWCoefficients& c, const DynamicMaps* maps, int processors) {
  if (n == 0) return cudaSuccess;
  const std::int64_t wanted = (n + std::int64_t{kBlock} * kWarps - 1) / (kBlock * kWarps);
  const std::int64_t most = std::int64_t{processors} * kBlocksPerProcessor;
  const auto blocks = static_cast<unsigned>(wanted < most ? wanted : most);
  adamw_8bit_kernel<<<blocks, kThreads, 0, stream>>>({param, m, v, absmax_m, absmax_v, grad, n}, c,
                                                     maps);
  return cudaGetLastError();
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
