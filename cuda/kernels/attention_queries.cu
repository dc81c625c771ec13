// Backward of attention over segments, first half: dq, in one pass over the keys of 64 queries.
//
//   delta = rowsum(dO * O);  p = exp(s - lse),  ds = p * (dO V^T - delta);  dq = ds K / sqrt(D)
//
// The two halves (this one and attention_keys.cu) each recompute p from lse: 7 products of D for a
// pair (query, key) that sees the other, 3 here and 4 there, where one pass over the keys that adds
// dq to memory takes 5. What the 2 more buy: each sum has one owner, so its order is fixed and
// there are no float atomics, no float32 dq in memory (4 T NH D bytes) and nothing to clear before.
//
// Shapes: q, o, d_o, dq (T, NH * D), k, v (T, NKV * D) bf16, lse (T, NH) f32; statistics (NH, T) of
// (lse log2(e), delta), for the second half: 8 T NH bytes. D = 16, 32, 64, 128.
// Launch: 4 warps for 64 queries of one head, a warp 16 of them; grid (NH, tiles), the tiles with
// the most keys first.
//
//   D    registers (sm_80, sm_89; no spills)   shared memory   blocks an SM
//   128  225, 225                              32 KB           2
//   64   146, 146                              16 KB           3
//   32   103, 103                               8 KB           4
//   16    75,  75                               4 KB           6
//
// Q, dO and dq stay in registers (128 of the 225 at D = 128), s and dp of 16 x 16 pairs at a time.
// K and V come in double-buffered stages of 32 keys, one barrier a stage. The rows come in and dq
// leaves through the stages: delta is taken from the fragments of dO and O, so that dO is read once
// for both. All device accesses are of 16 bytes but lse and the statistics; no bank conflicts
// (softgpu counts 0 for every D).
//
// A full stage at D = 128 is, for a warp, 96 mma and 48 ldmatrix.x4: some 345 instructions (sm_89),
// and 110 to copy the next. Predicted: 1536 clocks of a quarter SM's tensor cores on an L4, 768 on
// an A100. Causal masking as in attention.cu: blocks of 16 x 16 that no row of a warp sees are left
// out, and p is set to 0 rather than multiplied, since exp(0 - lse) of a key that is not there may
// be infinite.

#include <cmath>

#include "cuda/kernels/attention.h"
#include "cuda/kernels/attention_tile.cuh"

namespace qgrpo::cuda::kernels {
namespace {

using namespace attention;

struct Args {
  bf16* dq;
  float2* statistics;
  const bf16* d_o;
  const bf16* q;
  const bf16* k;
  const bf16* v;
  const bf16* o;
  const float* lse;
  const QueryTile* tiles;
  std::int64_t tokens;
  int heads;
  int kv_heads;
  int group;  // query heads of a KV head
  float scale;
  float scale_log2;  // scale log2(e)
};

constexpr int kKeys = 32;  // of a stage

// dq += ds k for 16 keys from `row` of the stage on; with kEdge, row h of a lane sees those up to
// last[h].
template <int D, bool kEdge>
__device__ void add_keys(float (&dq)[D / 8][4], const unsigned (&q)[D / 16][4],
                         const unsigned (&d_o)[D / 16][4], const bf16* keys, const bf16* values,
                         int row, const float (&lse)[2], const float (&delta)[2], float scale_log2,
                         const int (&last)[2]) {
  const int t = threadIdx.x % 4;
  float s[2][4];
  float dp[2][4];
  multiply_rows<D>(s, q, keys, row);
  multiply_rows<D>(dp, d_o, values, row);
#pragma unroll
  for (int e = 0; e < 2; ++e) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float p = exp2_fast(s[e][i] * scale_log2 - lse[i / 2]);
      s[e][i] = p * (dp[e][i] - delta[i / 2]);
      if (kEdge && row + 8 * e + 2 * t + i % 2 > last[i / 2]) s[e][i] = 0.0f;
    }
  }
  add_rows<D>(dq, s, keys, row);
}

template <int D>
__global__ void __launch_bounds__(kThreads, D == 128 ? 2 : 3) attention_queries_kernel(Args p) {
  constexpr int kTile = kKeys * D;
  __shared__ alignas(128) bf16 stages[2][2 * kTile];  // K, then V; first what the block has of rows
  static_assert(2 * kKeys == kQueryTile, "a stage holds one row of each query");
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
  const int warp_row = first_row_of_warp();
  const int row = warp_row + static_cast<int>(threadIdx.x) % kWarp / 4;  // and row + 8

  // delta = rowsum(dO * O), from fragments of both.
  copy_rows<D, kQueryTile>(stages[0], p.d_o, q_rows, tile.query, tile.queries);
  copy_rows<D, kQueryTile>(stages[1], p.o, q_rows, tile.query, tile.queries);
  commit_copies();
  wait_copies<0>();
  __syncthreads();
  unsigned d_o[D / 16][4];
  unsigned q[D / 16][4];
  load_left<D>(d_o, stages[0], warp_row);
  load_left<D>(q, stages[1], warp_row);  // o for now
  float delta[2] = {0.0f, 0.0f};
#pragma unroll
  for (int d = 0; d < D / 16; ++d) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 a = unpack_bf16(d_o[d][i]);
      const float2 b = unpack_bf16(q[d][i]);
      delta[i % 2] += a.x * b.x + a.y * b.y;
    }
  }
  float lse[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    delta[h] += __shfl_xor_sync(kAllLanes, delta[h], 1);
    delta[h] += __shfl_xor_sync(kAllLanes, delta[h], 2);
    const int r = row + 8 * h;
    const bool there = r < tile.queries;
    lse[h] = there ? p.lse[std::int64_t{tile.query + r} * p.heads + head] * kLog2e : 0.0f;
    if (there && threadIdx.x % 4 == 0) {
      p.statistics[head * p.tokens + tile.query + r] = make_float2(lse[h], delta[h]);
    }
  }
  __syncthreads();  // nobody reads the rows any more

  copy_rows<D, kQueryTile>(stages[1], p.q, q_rows, tile.query, tile.queries);
  copy_stage(0);
  wait_copies<0>();
  __syncthreads();
  load_left<D>(q, stages[1], warp_row);

  float dq[D / 8][4] = {};
  for (int step = 0; step < steps; ++step) {
    wait_copies<0>();
    __syncthreads();  // this stage has arrived; nobody reads the other any more
    if (step + 1 < steps) copy_stage(step + 1);
    const KeyRows keys = walk.at(step);
    const bf16* k = stages[step % 2];
    const int seen = tile.query + warp_row - keys.begin;  // the last key of the warp's first row
    if (keys.count == kKeys && seen >= kKeys - 1) {
#pragma unroll
      for (int n = 0; n < kKeys; n += 16) {
        add_keys<D, false>(dq, q, d_o, k, k + kTile, n, lse, delta, p.scale_log2, {});
      }
    } else if (warp_row < tile.queries && seen >= 0) {
      const int visible = min(keys.count, seen + 16);
      const int last[2] = {min(keys.count - 1, tile.query + row - keys.begin),
                           min(keys.count - 1, tile.query + row + 8 - keys.begin)};
#pragma unroll 1
      for (int n = 0; n < visible; n += 16) {
        add_keys<D, true>(dq, q, d_o, k, k + kTile, n, lse, delta, p.scale_log2, last);
      }
    }
  }
  __syncthreads();  // nobody reads keys any more
  store_rows<D>(p.dq, q_rows, tile.query + warp_row, tile.queries - warp_row,
                stages[0] + warp_row * D, dq, {p.scale, p.scale});
}

}  // namespace

cudaError_t attention_backward_queries(cudaStream_t stream, bf16* dq, float2* statistics,
                                       const bf16* d_o, const bf16* q, const bf16* k, const bf16* v,
                                       const bf16* o, const float* lse, const QueryTile* tiles,
                                       std::int64_t tile_count, const AttentionSizes& sizes) {
  if (tile_count == 0) return cudaSuccess;
  const float scale = 1.0f / sqrtf(static_cast<float>(sizes.dim));
  const Args p{dq,
               statistics,
               d_o,
               q,
               k,
               v,
               o,
               lse,
               tiles,
               sizes.tokens,
               sizes.heads,
               sizes.kv_heads,
               sizes.heads / sizes.kv_heads,
               scale,
               scale * kLog2e};
  const dim3 grid(static_cast<unsigned>(sizes.heads), static_cast<unsigned>(tile_count));
  switch (sizes.dim) {
    case 16:
      attention_queries_kernel<16><<<grid, kThreads, 0, stream>>>(p);
      break;
    case 32:
      attention_queries_kernel<32><<<grid, kThreads, 0, stream>>>(p);
      break;
    case 64:
      attention_queries_kernel<64><<<grid, kThreads, 0, stream>>>(p);
      break;
    case 128:
      attention_queries_kernel<128><<<grid, kThreads, 0, stream>>>(p);
      break;
    default:
      return cudaErrorInvalidValue;
  }
  return cudaGetLastError();
}

}  // namespace qgrpo::cuda::kernels
