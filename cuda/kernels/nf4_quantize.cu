// Quantization to NF4 with double quantization, the bytes of model/ops/nf4.cpp's nf4_quantize:
//
//   absmax[b] = max |w| over the block of 64;  x = clamp(w * (1 / absmax), -1, 1), w / absmax in a
//   last block that is shorter;  index = number of midpoints between neighbouring codes below x
//
// then, with the offset that the host has summed, blocks of 256 of absmax - offset, scaled by their
// largest magnitude to the nearest of 256 map values (distances in double, a tie goes down).
//
// Launch: a warp a block of 64, a lane the two weights of a byte; then a block of 256 threads for
// each 256 of absmax. Bytes: 2 or 4 in and 0.56 out a weight: the copy from the host, done once
// when a model is loaded, takes many times longer. IEEE divisions, no contraction: byte equality is
// the point. Registers and shared memory (ptxas, sm_80 and sm_89, no spills): below 30, 1 KB
// and 1.1 KB.

#include <cuda_fp16.h>

#include "cuda/kernels/nf4.cuh"

namespace qgrpo::cuda::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kBlock = 64;
constexpr int kGroup = 256;  // of absmax

__device__ float as_float(float x) {
  return x;
}
__device__ float as_float(bf16 x) {
  return __bfloat162float(x);
}
__device__ float as_float(__half x) {
  return __half2float(x);
}

__device__ unsigned nearest_index(float x) {
  unsigned index = 0;
#pragma unroll
  for (int i = 0; i < 15; ++i) index += (kCode[i] + kCode[i + 1]) / 2.0f < x ? 1u : 0u;
  return index;
}

__device__ float clamped(float x) {
  return x < -1.0f ? -1.0f : 1.0f < x ? 1.0f : x;
}

__device__ float block_max(float x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, step));
  }
  return x;
}

// Elements [first, first + count) of the matrix; `from` holds them alone. `bad`: the lowest index
// of one that is not finite.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    nf4_quantize_kernel(std::uint8_t* packed, float* absmax, unsigned long long* bad, const T* from,
                        std::int64_t first, std::int64_t count) {
  const std::int64_t block = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) / kWarp;
  const int lane = threadIdx.x % kWarp;
  const std::int64_t begin = block * kBlock;
  if (begin >= count) return;
  const std::int64_t at = begin + 2 * lane;
  float w[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    w[i] = at + i < count ? as_float(from[at + i]) : 0.0f;
    if (!isfinite(w[i])) atomicMin(bad, static_cast<unsigned long long>(first + at + i));
  }
  const float largest = block_max(fmaxf(fabsf(w[0]), fabsf(w[1])));
  const bool partial = count - begin < kBlock;
  const float inverse = __fdiv_rn(1.0f, largest);
  unsigned index[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float x = largest > 0.0f
                        ? clamped(partial ? __fdiv_rn(w[i], largest) : __fmul_rn(w[i], inverse))
                        : 0.0f;
    index[i] = at + i < count ? nearest_index(x) : 0u;
  }
  if (at < count) {
    packed[(first + at) / 2] = static_cast<std::uint8_t>(index[0] << 4 | index[1]);
  }
  if (lane == 0) absmax[first / kBlock + block] = largest;
}

// The nearest of the ascending map, as nearest_code() of model/ops/nf4.h.
__device__ int nearest_map(const float* map, float value) {
  int low = 0, high = kGroup;  // the first entry that is not below `value`
  while (low < high) {
    const int middle = (low + high) / 2;
    if (map[middle] < value) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == 0) return 0;
  if (low == kGroup) return kGroup - 1;
  const double below = static_cast<double>(value) - static_cast<double>(map[low - 1]);
  const double above = static_cast<double>(map[low]) - static_cast<double>(value);
  return above < below ? low : low - 1;
}

__global__ void __launch_bounds__(kGroup)
    nf4_quantize_absmax_kernel(std::uint8_t* codes, float* nested, const float* absmax,
                               const float* map_values, float offset, std::int64_t blocks) {
  __shared__ float map[kGroup];
  __shared__ float of_warp[kGroup / kWarp];
  const std::int64_t begin = std::int64_t{blockIdx.x} * kGroup;
  const std::int64_t i = begin + threadIdx.x;
  map[threadIdx.x] = map_values[threadIdx.x];
  const float centred = i < blocks ? __fsub_rn(absmax[i], offset) : 0.0f;
  const float of_lanes = block_max(fabsf(centred));
  if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = of_lanes;
  __syncthreads();
  float largest = 0.0f;
#pragma unroll
  for (int w = 0; w < kGroup / kWarp; ++w) largest = fmaxf(largest, of_warp[w]);
  if (threadIdx.x == 0) nested[blockIdx.x] = largest;
  if (i >= blocks) return;
  float x = 0.0f;
  if (largest > 0.0f) {
    const bool partial = blocks - begin < kGroup;
    x = clamped(partial ? __fdiv_rn(centred, largest)
                        : __fmul_rn(centred, __fdiv_rn(1.0f, largest)));
  }
  codes[i] = static_cast<std::uint8_t>(nearest_map(map, x));
}

template <typename T>
cudaError_t launch(cudaStream_t stream, const Nf4Target& to, const T* from, std::int64_t first,
                   std::int64_t count) {
  if (count == 0) return cudaSuccess;
  const std::int64_t blocks = (count + kBlock - 1) / kBlock;
  constexpr std::int64_t kEach = kThreads / kWarp;
  nf4_quantize_kernel<<<static_cast<unsigned>((blocks + kEach - 1) / kEach), kThreads, 0, stream>>>(
      to.packed, to.absmax, to.bad, from, first, count);
  return cudaGetLastError();
}

}  // namespace

cudaError_t nf4_quantize(cudaStream_t stream, const Nf4Target& to, const float* from,
                         std::int64_t first, std::int64_t count) {
  return launch(stream, to, from, first, count);
}
cudaError_t nf4_quantize(cudaStream_t stream, const Nf4Target& to, const bf16* from,
                         std::int64_t first, std::int64_t count) {
  return launch(stream, to, from, first, count);
}
cudaError_t nf4_quantize_f16(cudaStream_t stream, const Nf4Target& to, const std::uint16_t* from,
                             std::int64_t first, std::int64_t count) {
  return launch(stream, to, reinterpret_cast<const __half*>(from), first, count);
}

cudaError_t nf4_quantize_absmax(cudaStream_t stream, std::uint8_t* codes, float* nested,
                                const float* absmax, const float* map, float offset,
                                std::int64_t blocks) {
  if (blocks == 0) return cudaSuccess;
  const auto groups = static_cast<unsigned>((blocks + kGroup - 1) / kGroup);
  nf4_quantize_absmax_kernel<<<groups, kGroup, 0, stream>>>(codes, nested, absmax, map, offset,
                                                            blocks);
  return cudaGetLastError();
}

}  // namespace qgrpo::cuda::kernels
