// Attention over a packed batch of segments, forward, in one pass over the keys (Dao et al.,
// "FlashAttention-2", 2023):
//
//   s = q k^T / sqrt(D);  over key tiles j:  m' = max(m, max s_j),  p = exp(s_j - m'),
//   l = l exp(m - m') + sum p,  o = o exp(m - m') + p v_j;   at the end  o / l,  lse = m + log l
//
// A query sees its parent's tokens and its own segment's up to itself. Key tiles of 64 begin at the
// parent's start and anew at the segment's start, so a row's order of summation is that of
// kAttentionKeyBlock whatever else is in the batch.
//
// Shapes: q, o (T, NH * D), k, v (T, NKV * D) bf16, lse (T, NH) f32; D = 16, 32, 64, 128.
// Launch: a block of 4 warps for 64 queries of one head, a warp 16 of them; grid (tiles, NH).
//
// Shared memory: one K and one V tile, rows padded by 16 bytes so that the 8 rows of an ldmatrix
// fall into distinct banks (a stride of D / 2 + 4 words is 4, 12, 20 or 28 modulo 32): 34.8 KB at
// D = 128. V_j is copied while S_j = Q K_j is computed, K_{j+1} while P V_j is: 17 KB in flight a
// block. Registers (ptxas, no spills): 208 at D = 128, of which 32 hold Q, 64 O and 32 S, so 2
// blocks on an SM; 149 at D = 64, so 3. Per key tile and warp at D = 128: 128 products, 64
// ldmatrix.x4, 32 exp2 a lane.
// Tiles beyond the diagonal are never loaded; warps whose rows a diagonal tile masks whole skip its
// arithmetic. Queries of one KV head's group read the same K and V from L2.

#include <cmath>

#include "cuda/kernels/attention.h"
#include "cuda/kernels/mma.cuh"
#include "cuda/kernels/pack.cuh"

namespace qgrpo::cuda::kernels {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr float kLog2e = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

struct Args {
  bf16* o;
  float* lse;
  const bf16* q;
  const bf16* k;
  const bf16* v;
  const QueryTile* tiles;
  int heads;
  int kv_heads;
  float scale_log2;  // log2(e) / sqrt(D): the softmax is taken in base 2
};

// A key tile: rows [begin, begin + count) of the packed batch.
struct KeyTile {
  int begin;
  int count;
};
__device__ KeyTile key_tile(const QueryTile& tile, int j) {
  const int parent_tiles = (tile.parent_length + kKeyTile - 1) / kKeyTile;
  if (j < parent_tiles) {
    const int done = j * kKeyTile;
    return {tile.parent + done, min(kKeyTile, tile.parent_length - done)};
  }
  const int done = (j - parent_tiles) * kKeyTile;
  return {tile.own + done, min(kKeyTile, tile.query + tile.queries - tile.own - done)};
}
__device__ int key_tiles(const QueryTile& tile) {
  const int own = tile.query + tile.queries - tile.own;
  return (tile.parent_length + kKeyTile - 1) / kKeyTile + (own + kKeyTile - 1) / kKeyTile;
}

// Starts the copy of a tile's rows of one head; rows that are not there become zeros.
template <int D>
__device__ void copy_tile(bf16* shared, const bf16* head, std::int64_t row_stride, KeyTile keys) {
  constexpr int kChunks = D / 8;
  for (int i = threadIdx.x; i < kKeyTile * kChunks; i += kThreads) {
    const int row = i / kChunks;
    const int column = i % kChunks * 8;
    const bool there = row < keys.count;
    const bf16* from = head + (keys.begin + (there ? row : 0)) * row_stride + column;
    copy_async(shared + row * (D + 8) + column, from, there);
  }
  commit_copies();
}

// s (16 x 64 of this warp) = q k^T.
template <int D>
__device__ void scores(float (&s)[kKeyTile / 8][4], const unsigned (&q)[D / 16][4],
                       const bf16* keys) {
  const int lane = threadIdx.x % kWarp;
  const bf16* row = keys + (lane / 16 * 8 + lane % 8) * (D + 8) + lane / 8 % 2 * 8;
#pragma unroll
  for (int n = 0; n < kKeyTile / 8; ++n) s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.0f;
#pragma unroll
  for (int d = 0; d < D / 16; ++d) {
#pragma unroll
    for (int n = 0; n < kKeyTile / 16; ++n) {
      unsigned b[4];
      load_matrices(b, row + n * 16 * (D + 8) + d * 16);
      mma_bf16(s[2 * n], q[d], b[0], b[1]);
      mma_bf16(s[2 * n + 1], q[d], b[2], b[3]);
    }
  }
}

// o (16 x D) += p v; p in the layout of scores, rounded to bf16.
template <int D>
__device__ void add_values(float (&o)[D / 8][4], const float (&p)[kKeyTile / 8][4],
                           const bf16* values) {
  const int lane = threadIdx.x % kWarp;
  const bf16* row = values + (lane / 8 % 2 * 8 + lane % 8) * (D + 8) + lane / 16 * 8;
#pragma unroll
  for (int k = 0; k < kKeyTile / 16; ++k) {
    const unsigned a[4] = {pack_bf16(p[2 * k][0], p[2 * k][1]), pack_bf16(p[2 * k][2], p[2 * k][3]),
                           pack_bf16(p[2 * k + 1][0], p[2 * k + 1][1]),
                           pack_bf16(p[2 * k + 1][2], p[2 * k + 1][3])};
#pragma unroll
    for (int d = 0; d < D / 16; ++d) {
      unsigned b[4];
      load_matrices_transposed(b, row + k * 16 * (D + 8) + d * 16);
      mma_bf16(o[2 * d], a, b[0], b[1]);
      mma_bf16(o[2 * d + 1], a, b[2], b[3]);
    }
  }
}

// The online softmax of the two rows that a lane has a quarter of (rows g and g + 8).
struct RowState {
  float max[2] = {-INFINITY, -INFINITY};  // of the scores times scale_log2
  float sum[2] = {0.0f, 0.0f};            // this lane's part
};

// Masks keys after the row's query, turns scores into p, and rescales o.
template <int D>
__device__ void softmax_step(RowState& state, float (&o)[D / 8][4], float (&s)[kKeyTile / 8][4],
                             float scale_log2, KeyTile keys, int query) {
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float most = state.max[h];
    const int last = min(keys.count - 1, query + 8 * h - keys.begin);  // the last visible key
#pragma unroll
    for (int n = 0; n < kKeyTile / 8; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& x = s[n][2 * h + c];
        x = 8 * n + 2 * t + c <= last ? x * scale_log2 : -INFINITY;
        most = fmaxf(most, x);
      }
    }
    most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, 1));
    most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, 2));
    const float shrink = exp2f(state.max[h] - most);  // 0 at the first tile
    state.max[h] = most;
    float sum = 0.0f;
#pragma unroll
    for (int n = 0; n < kKeyTile / 8; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& x = s[n][2 * h + c];
        x = exp2f(x - most);
        sum += x;
      }
    }
    state.sum[h] = state.sum[h] * shrink + sum;
#pragma unroll
    for (int d = 0; d < D / 8; ++d) {
      o[d][2 * h] *= shrink;
      o[d][2 * h + 1] *= shrink;
    }
  }
}

template <int D>
__global__ void __launch_bounds__(kThreads) attention_forward_kernel(Args p) {
  __shared__ alignas(16) bf16 keys[kKeyTile * (D + 8)];
  __shared__ alignas(16) bf16 values[kKeyTile * (D + 8)];
  const QueryTile tile = p.tiles[blockIdx.x];
  const int head = blockIdx.y;
  const int kv_head = head / (p.heads / p.kv_heads);
  const std::int64_t q_stride = std::int64_t{p.heads} * D;
  const std::int64_t kv_stride = std::int64_t{p.kv_heads} * D;
  const bf16* k = p.k + kv_head * D;
  const bf16* v = p.v + kv_head * D;
  const int warp_row = threadIdx.x / kWarp * 16;
  const int row = warp_row + threadIdx.x % kWarp / 4;  // and row + 8
  const int t = threadIdx.x % 4;
  const int tiles = key_tiles(tile);

  copy_tile<D>(keys, k, kv_stride, key_tile(tile, 0));
  unsigned q[D / 16][4];
#pragma unroll
  for (int d = 0; d < D / 16; ++d) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {  // rows of queries that are not there are zeros
      const int r = row + 8 * (i % 2);
      const bf16* from = p.q + (tile.query + r) * q_stride + head * D + d * 16 + i / 2 * 8 + 2 * t;
      q[d][i] = r < tile.queries ? *reinterpret_cast<const unsigned*>(from) : 0u;
    }
  }
  RowState state;
  float o[D / 8][4] = {};
  for (int j = 0; j < tiles; ++j) {
    const KeyTile now = key_tile(tile, j);
    // Masked whole for this warp: its last query comes before the tile's first key.
    const bool visible = warp_row < tile.queries && tile.query + warp_row + 15 >= now.begin;
    wait_copies<0>();
    __syncthreads();  // K_j has arrived; nobody reads V_{j-1} any more
    copy_tile<D>(values, v, kv_stride, now);
    float s[kKeyTile / 8][4];
    if (visible) scores<D>(s, q, keys);
    wait_copies<0>();
    __syncthreads();  // V_j has arrived; nobody reads K_j any more
    if (j + 1 < tiles) copy_tile<D>(keys, k, kv_stride, key_tile(tile, j + 1));
    if (visible) {
      softmax_step<D>(state, o, s, p.scale_log2, now, tile.query + row);
      add_values<D>(o, s, values);
    }
  }

#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float sum = state.sum[h];
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    const int r = row + 8 * h;
    if (r >= tile.queries) continue;
    const float inverse = 1.0f / sum;
    bf16* to = p.o + (tile.query + r) * q_stride + head * D + 2 * t;
#pragma unroll
    for (int d = 0; d < D / 8; ++d) {
      *reinterpret_cast<unsigned*>(to + d * 8) =
          pack_bf16(o[d][2 * h] * inverse, o[d][2 * h + 1] * inverse);
    }
    if (t == 0) {
      p.lse[std::int64_t{tile.query + r} * p.heads + head] = (state.max[h] + log2f(sum)) * kLn2;
    }
  }
}

}  // namespace

cudaError_t attention_forward(cudaStream_t stream, bf16* o, float* lse, const bf16* q,
                              const bf16* k, const bf16* v, const QueryTile* tiles,
                              std::int64_t tile_count, int heads, int kv_heads, int dim) {
  if (tile_count == 0) return cudaSuccess;
  const float scale_log2 = kLog2e / sqrtf(static_cast<float>(dim));
  const Args p{o, lse, q, k, v, tiles, heads, kv_heads, scale_log2};
  const dim3 grid(static_cast<unsigned>(tile_count), static_cast<unsigned>(heads));
  switch (dim) {
    case 16:
      attention_forward_kernel<16><<<grid, kThreads, 0, stream>>>(p);
      break;
    case 32:
      attention_forward_kernel<32><<<grid, kThreads, 0, stream>>>(p);
      break;
    case 64:
      attention_forward_kernel<64><<<grid, kThreads, 0, stream>>>(p);
      break;
    case 128:
      attention_forward_kernel<128><<<grid, kThreads, 0, stream>>>(p);
      break;
    default:
      return cudaErrorInvalidValue;
  }
  return cudaGetLastError();
}

}  // namespace qgrpo::cuda::kernels
