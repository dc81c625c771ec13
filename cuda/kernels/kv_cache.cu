// Writing the paged cache, memory-bound:
//
//   kv_write        cache[slots[t]] = k[t], v[t]
//   rope_kv_write   q, k turned in place (pairs (i, i + D/2)), k and v to their slots
//   copy_blocks     whole blocks of both caches, all pairs in one launch
//
// Launch: 256 threads. kv_write and copy_blocks: a thread 16 bytes. rope_kv_write: a thread V pairs
// of one head of q or k, or V + V elements of a head of v; V = 8, one 16-byte access for each half,
// where D is a multiple of 16, else 2. Grid: units of a token in x, tokens (or pairs) in y, so that
// no thread divides by more than the units of a head. The token's cosines and sines go through
// shared memory, once a block.
//
// Bytes of rope_kv_write at the 3B shape (NH 16, NKV 2, D 128): q 4 KB in and out, k 0.5 KB in and
// twice out, v 0.5 KB in and out, and 0.5 KB of table a token: 11.3 KB, against 12 KB and three
// launches of rope, rope and kv_write; all warps access whole sectors. softgpu counts 94.2 KB of
// sectors for 8 tokens, 1.05 of the minimum, no bank conflicts. (With the table read by every head:
// 1.44.) Registers (ptxas, sm_80 / sm_89, no spills): rope_kv_write 48 / 48 (V = 2: 48 / 58),
// kv_write 20 / 24, copy_blocks 16 / 16. Shared memory: 640 bytes at D = 128.

#include "cuda/kernels/common/pack.cuh"
#include "cuda/kernels/kv_cache.h"
#include "cuda/kernels/rope.cuh"

namespace qgrpo::cuda::kernels {
namespace {

constexpr int kThreads = 256;

template <typename Unit>
__global__ void __launch_bounds__(kThreads)
    kv_write_kernel(Unit* k_cache, Unit* v_cache, const Unit* k, const Unit* v,
                    const std::int32_t* slots, std::int64_t tokens, int units) {
  const int u = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (u >= units) return;
  for (std::int64_t t = blockIdx.y; t < tokens; t += gridDim.y) {
    const std::int64_t to = std::int64_t{slots[t]} * units + u;
    k_cache[to] = k[t * units + u];
    v_cache[to] = v[t * units + u];
  }
}

// The slot of token t; -1 = it is left alone.
__device__ std::int64_t slot_of(const RopeKv& p, int t) {
  if (p.slots != nullptr) return p.slots[t];
  if (p.active[t] == 0) return -1;
  const int position = p.positions[t];
  const std::int32_t* blocks = p.block_tables + std::int64_t{t} * p.max_blocks;
  return std::int64_t{blocks[position / p.block_size]} * p.block_size + position % p.block_size;
}

template <int V>
__global__ void __launch_bounds__(kThreads) rope_kv_write_kernel(RopeKv p) {
  // The token's turns, two pairs each: those of unit u at [n][u], the rows padded by 32 bytes, so
  // that neither neighbours' stores nor their loads meet in a bank.
  extern __shared__ float4 turns[];
  const int half = p.dim / 2;
  const int units = half / V;  // of a head
  const int row = units + 2;
  const int u = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  const int head = u / units;  // q's heads, then k's, then v's
  const int i = u % units * V;
  const bool is_q = head < p.heads;
  const bool is_k = !is_q && head < p.heads + p.kv_heads;
  const bool is_v = !is_q && !is_k && head < p.heads + 2 * p.kv_heads;
  const int width = (is_q ? p.heads : p.kv_heads) * p.dim;
  const int place = (head - (is_q ? 0 : is_k ? p.heads : p.heads + p.kv_heads)) * p.dim + i;
  for (int t = static_cast<int>(blockIdx.y); t < p.tokens; t += static_cast<int>(gridDim.y)) {
    const std::int64_t slot = slot_of(p, t);
    if (slot < 0) continue;
    const auto* of_position =
        reinterpret_cast<const float4*>(p.table + std::int64_t{p.positions[t]} * half);
    __syncthreads();  // the last token's turns have been used
    for (int j = static_cast<int>(threadIdx.x); j < half / 2; j += kThreads) {
      turns[j % (V / 2) * row + j / (V / 2)] = of_position[j];
    }
    float low[V], high[V];
    bf16* x = nullptr;
    if (is_q || is_k) x = (is_q ? p.q : p.k) + std::int64_t{t} * width + place;
    const bf16* from = is_v ? p.v + std::int64_t{t} * width + place : x;
    if (from != nullptr) {
      load<V>(low, from);
      load<V>(high, from + half);
    }
    __syncthreads();
    if (from == nullptr) continue;
    if (x != nullptr) {
#pragma unroll
      for (int n = 0; n < V; n += 2) {
        const float4 by = turns[n / 2 * row + i / V];
        const float2 a = turned(low[n], high[n], by.x, by.y);
        const float2 b = turned(low[n + 1], high[n + 1], by.z, by.w);
        low[n] = a.x, high[n] = a.y;
        low[n + 1] = b.x, high[n + 1] = b.y;
      }
      store<V>(x, low);
      store<V>(x + half, high);
    }
    if (is_q) continue;
    bf16* to = (is_k ? p.k_cache : p.v_cache) + slot * width + place;
    store<V>(to, low);
    store<V>(to + half, high);
  }
}

template <typename Unit>
__global__ void __launch_bounds__(kThreads)
    copy_blocks_kernel(Unit* k_cache, Unit* v_cache, const std::int32_t* pairs, std::int64_t count,
                       std::int64_t units) {
  const std::int64_t u = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (u >= units) return;
  Unit* cache = blockIdx.z == 0 ? k_cache : v_cache;
  // Backwards: pairs that depend on each other would be wrong even where blocks run in order.
  for (std::int64_t i = count - 1 - blockIdx.y; i >= 0; i -= gridDim.y) {
    cache[pairs[2 * i + 1] * units + u] = cache[pairs[2 * i] * units + u];
  }
}

unsigned blocks_of(std::int64_t units) {
  return static_cast<unsigned>((units + kThreads - 1) / kThreads);
}
unsigned grid_y(std::int64_t count) {
  return static_cast<unsigned>(count < 65535 ? count : 65535);
}

}  // namespace

cudaError_t kv_write(cudaStream_t stream, bf16* k_cache, bf16* v_cache, const bf16* k,
                     const bf16* v, const std::int32_t* slots, std::int64_t tokens,
                     std::int64_t width) {
  if (tokens == 0 || width == 0) return cudaSuccess;
  if (width % 8 == 0) {
    const std::int64_t units = width / 8;
    const dim3 grid(blocks_of(units), grid_y(tokens));
    kv_write_kernel<<<grid, kThreads, 0, stream>>>(
        reinterpret_cast<uint4*>(k_cache), reinterpret_cast<uint4*>(v_cache),
        reinterpret_cast<const uint4*>(k), reinterpret_cast<const uint4*>(v), slots, tokens,
        static_cast<int>(units));
  } else {
    const dim3 grid(blocks_of(width), grid_y(tokens));
    kv_write_kernel<<<grid, kThreads, 0, stream>>>(k_cache, v_cache, k, v, slots, tokens,
                                                   static_cast<int>(width));
  }
  return cudaGetLastError();
}

cudaError_t rope_kv_write(cudaStream_t stream, const RopeKv& p) {
  if (p.tokens == 0) return cudaSuccess;
  const int vector = p.dim % 16 == 0 ? 8 : 2;
  const dim3 grid(blocks_of(std::int64_t{p.heads + 2 * p.kv_heads} * (p.dim / 2 / vector)),
                  grid_y(p.tokens));
  const auto kernel = vector == 8 ? rope_kv_write_kernel<8> : rope_kv_write_kernel<2>;
  const auto bytes =
      static_cast<std::size_t>(vector / 2 * (p.dim / 2 / vector + 2)) * sizeof(float4);
  kernel<<<grid, kThreads, bytes, stream>>>(p);
  return cudaGetLastError();
}

cudaError_t copy_blocks(cudaStream_t stream, bf16* k_cache, bf16* v_cache,
                        const std::int32_t* pairs, std::int64_t count,
                        std::int64_t block_elements) {
  if (count == 0 || block_elements == 0) return cudaSuccess;
  if (block_elements % 8 == 0) {
    const std::int64_t units = block_elements / 8;
    const dim3 grid(blocks_of(units), grid_y(count), 2);
    copy_blocks_kernel<<<grid, kThreads, 0, stream>>>(
        reinterpret_cast<uint4*>(k_cache), reinterpret_cast<uint4*>(v_cache), pairs, count, units);
  } else {
    const dim3 grid(blocks_of(block_elements), grid_y(count), 2);
    copy_blocks_kernel<<<grid, kThreads, 0, stream>>>(k_cache, v_cache, pairs, count,
                                                      block_elements);
  }
  return cudaGetLastError();
}

}  // namespace qgrpo::cuda::kernels
