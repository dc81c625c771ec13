// Attention over a packed batch of segments, forward, in one pass over the keys (Dao et al.,
// "FlashAttention-2", 2023):
//
//   s = q k^T / sqrt(D);  over key tiles j:  m' = max(m, max s_j),  p = exp(s_j - m'),
//   l = l exp(m - m') + sum p,  o = o exp(m - m') + p v_j;   at the end  o / l,  lse = m + log l
//
// A query sees its parent's tokens and its own segment's up to itself. Key tiles begin at the
// parent's start and anew at the segment's, so a row's order of summation is the same whatever else
// is in the batch.
//
// Shapes: q, o (T, NH * D), k, v (T, NKV * D) bf16, lse (T, NH) f32; D = 16, 32, 64, 128.
// Launch: 4 warps for 64 queries of one head, a warp 16 of them; grid (NH, tiles), the tiles with
// the most keys first. Heads that share K and V run side by side, so L2 serves all but the first.
//
//   D    keys of a stage   registers (sm_80, sm_89; no spills)   shared memory   blocks an SM
//   128  32                168, 168                              32 KB           3
//   64   64                133, 133                              32 KB           3 (L4: by memory)
//   32   64                 99,  99                              16 KB           4
//   16   64                 80,  80                               8 KB           6
//
// K and V are double-buffered: while a tile is computed on, the next is copied; one barrier a tile.
// At D = 128 Q and O take 96 registers and two stages of 64 keys would take 64 KB, one block on an
// L4: stages of 32 keys leave room for three, so 12 warps cover each other's softmax. That rescales
// o twice as often (64 multiplications a lane); a warp skips it where none of its 16 maxima rose:
// rarely at first, for scores in random order mostly from the 24th tile on.
//
// Bytes: Q and O once, K and V (16 KB a stage at D = 128) once for each 64 queries and head, all in
// 16-byte accesses: Q enters and O leaves through the stages. Bank conflicts: none in copies,
// ldmatrix and O (attention_tile.cuh; softgpu counts 0 for every D).
//
// A full stage at D = 128 is, for a warp, 64 mma, 32 ldmatrix.x4 and 16 exp2 a lane: some 350
// instructions (sm_89), and 110 to copy the next. Predicted: 64 mma are 1024 clocks of a quarter SM
// on an L4 and 512 on an A100, 4 warps' ldmatrix 512 clocks of shared memory: bound by the tensor
// cores on an L4, on an A100 by both alike. (32 rows a warp would halve ldmatrix, but not fit 168
// registers at D = 128, and waste more on completions of a few hundred tokens.)
//
// The diagonal: stages behind a tile's last query are not loaded; of the others a warp leaves out
// the 16 x 16 blocks (two products) that none of its rows sees. Tiles and warps begin at multiples
// of 16 from the segment's start, so a block is masked whole, in part only on the diagonal, or not
// at all: nothing is computed for pairs further than 15 beyond the diagonal.
//
// Tried: rows padded by 16 bytes instead of swizzled (as free of conflicts, but 34.8 KB, two
// blocks on an L4); V_j copied during S_j and K_{j+1} during P V_j in single buffers (two barriers
// a tile, 208 registers, 2 blocks).

#include <cmath>

#include "cuda/kernels/attention.h"
#include "cuda/kernels/attention_tile.cuh"

namespace qgrpo::cuda::kernels {
namespace {

using namespace attention;

struct Args {
  bf16* o;
  float* lse;
  const bf16* q;
  const bf16* k;
  const bf16* v;
  const QueryTile* tiles;
  int heads;
  int kv_heads;
  int group;         // query heads of a KV head
  float scale_log2;  // log2(e) / sqrt(D): the softmax is taken in base 2
};

// Keys of a stage: at D = 128 half as many, so that three blocks fit an SM.
template <int D>
constexpr int kStageKeys = D == 128 ? 32 : 64;

// The online softmax of the two rows that a lane has a quarter of (rows g and g + 8).
struct RowState {
  float max[2] = {-INFINITY, -INFINITY};  // of q k^T
  float sum[2] = {0.0f, 0.0f};            // this lane's part
};

// One key tile: scores, softmax, o += p v. With kEdge the tile has `count` keys and the warp's
// first row sees those up to `seen`, the next ones more; products of fragments that no row sees are
// left out. Without, all rows see all keys.
template <int D, bool kEdge>
__device__ void attend(RowState& state, float (&o)[D / 8][4], const unsigned (&q)[D / 16][4],
                       const bf16* keys, const bf16* values, float scale_log2, int count,
                       int seen) {
  constexpr int kGroups = kStageKeys<D> / 16;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int visible = min(count, seen + 16);
  float s[kGroups][2][4];
#pragma unroll
  for (int n = 0; n < kGroups; ++n) {
    if (!kEdge || 16 * n < visible) multiply_rows<D>(s[n], q, keys, 16 * n);
  }
  float shrink[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float most = state.max[h];
    const int last = min(count - 1, seen + lane / 4 + 8 * h);
#pragma unroll
    for (int n = 0; n < kGroups; ++n) {
      if (kEdge && 16 * n >= visible) continue;
#pragma unroll
      for (int e = 0; e < 2; ++e) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float& x = s[n][e][2 * h + c];
          if (kEdge && 16 * n + 8 * e + lane % 4 * 2 + c > last) x = -INFINITY;
          most = fmaxf(most, x);
        }
      }
    }
    most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, 1));
    most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, 2));
    const float base = most * scale_log2;
    shrink[h] = exp2_fast(state.max[h] * scale_log2 - base);  // 0 at the first tile
    state.max[h] = most;
    float sum = 0.0f;
#pragma unroll
    for (int n = 0; n < kGroups; ++n) {
      if (kEdge && 16 * n >= visible) continue;
#pragma unroll
      for (int e = 0; e < 2; ++e) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float& x = s[n][e][2 * h + c];
          x = exp2_fast(x * scale_log2 - base);
          sum += x;
        }
      }
    }
    state.sum[h] = state.sum[h] * shrink[h] + sum;
  }
  // The maxima settle after a few tiles, and a factor of 1 changes nothing.
  if (__any_sync(kAllLanes, shrink[0] != 1.0f || shrink[1] != 1.0f)) {
#pragma unroll
    for (int d = 0; d < D / 8; ++d) {
#pragma unroll
      for (int i = 0; i < 4; ++i) o[d][i] *= shrink[i / 2];
    }
  }
#pragma unroll
  for (int n = 0; n < kGroups; ++n) {
    if (!kEdge || 16 * n < visible) add_rows<D>(o, s[n], values, 16 * n);
  }
}

template <int D>
__global__ void __launch_bounds__(kThreads, 3) attention_forward_kernel(Args p) {
  constexpr int kKeys = kStageKeys<D>;
  constexpr int kTile = kKeys * D;
  __shared__ alignas(128) bf16 stages[2][2 * kTile];  // K, then V
  const int head = static_cast<int>(blockIdx.x);
  const QueryTile& tile = p.tiles[blockIdx.y];
  const KeyWalk<kKeys> walk{tile};
  const int steps = walk.steps();
  const int kv_head = head / p.group;
  const HeadRows q_rows{p.heads * D, head * D};
  const HeadRows kv_rows{p.kv_heads * D, kv_head * D};
  const auto copy_stage = [&](int step) {
    const KeyRows keys = walk.at(step);
    bf16* to = stages[step % 2];
    copy_rows<D, kKeys>(to, p.k, kv_rows, keys.begin, keys.count);
    copy_rows<D, kKeys>(to + kTile, p.v, kv_rows, keys.begin, keys.count);
    commit_copies();
  };

  // The queries come in where the second stage will be.
  static_assert(kQueryTile <= 2 * kKeys, "a stage holds the queries");
  copy_rows<D, kQueryTile>(stages[1], p.q, q_rows, tile.query, tile.queries);
  copy_stage(0);
  wait_copies<0>();
  __syncthreads();
  const int warp_row = first_row_of_warp();
  unsigned q[D / 16][4];
  load_left<D>(q, stages[1], warp_row);

  RowState state;
  float o[D / 8][4] = {};
  for (int step = 0; step < steps; ++step) {
    wait_copies<0>();
    __syncthreads();  // this stage has arrived; nobody reads the other any more
    if (step + 1 < steps) copy_stage(step + 1);
    const KeyRows keys = walk.at(step);
    const bf16* k = stages[step % 2];
    const int seen = tile.query + warp_row - keys.begin;  // the last key of the warp's first row
    if (keys.count == kKeys && seen >= kKeys - 1) {
      attend<D, false>(state, o, q, k, k + kTile, p.scale_log2, kKeys, kKeys);
    } else if (warp_row < tile.queries && seen >= 0) {
      attend<D, true>(state, o, q, k, k + kTile, p.scale_log2, keys.count, seen);
    }
  }

  float inverse[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float sum = state.sum[h];
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    inverse[h] = 1.0f / sum;
    const int r = warp_row + static_cast<int>(threadIdx.x) % kWarp / 4 + 8 * h;
    if (p.lse != nullptr && threadIdx.x % 4 == 0 && r < tile.queries) {
      p.lse[std::int64_t{tile.query + r} * p.heads + head] =
          (state.max[h] * p.scale_log2 + log2f(sum)) * kLn2;
    }
  }
  __syncthreads();  // nobody reads keys or values any more
  store_rows<D>(p.o, q_rows, tile.query + warp_row, tile.queries - warp_row,
                stages[0] + warp_row * D, o, inverse);
}

}  // namespace

cudaError_t attention_forward(cudaStream_t stream, bf16* o, float* lse, const bf16* q,
                              const bf16* k, const bf16* v, const QueryTile* tiles,
                              std::int64_t tile_count, const AttentionSizes& sizes) {
  if (tile_count == 0) return cudaSuccess;
  const float scale_log2 = kLog2e / sqrtf(static_cast<float>(sizes.dim));
  const Args p{
      o,         lse, q, k, v, tiles, sizes.heads, sizes.kv_heads, sizes.heads / sizes.kv_heads,
      scale_log2};
  const dim3 grid(static_cast<unsigned>(sizes.heads), static_cast<unsigned>(tile_count));
  switch (sizes.dim) {
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
