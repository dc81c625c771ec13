#pragma once

#include <climits>
#include <cmath>

#include "cuda/kernels/attention_tile.cuh"
#include "cuda/kernels/paged_attention.h"

// What the two kernels of attention over the paged cache share: 64 (token, head) rows of one KV
// head, a warp 16 of them, go through key tiles of 64 that are gathered from the cache's blocks:
//
//   s = q k^T;  m' = max(m, max s_j);  p = exp2(s_j - m');  l = l exp2(m - m') + sum p
//   o = o exp2(m - m') + bf16(p) v_j            scores in units of log2(e) / sqrt(D), float32
//
// (Dao et al., "FlashAttention-2", 2023). Rows are independent: a row's bits depend on its query
// and keys alone, not on its place in the tile or on what else is in it.
//
// Shared memory: rings of `Stages` key and value tiles in the layout of attention_tile.cuh, without
// bank conflicts for cp.async and ldmatrix. K_j, V_j, K_{j+1} ... are one cp.async group each, 2
// Stages - 1 of them in flight while a tile is used.
namespace qgrpo::cuda::kernels::paged {

using attention::exp2_fast;
using attention::kLog2e;
using attention::kThreads;
static_assert(attention::kWarps * 16 == kPagedTileRows, "a warp 16 rows");

template <int D, int Stages>
struct Ring {
  bf16 keys[Stages][kPagedKeyTile * D];
  bf16 values[Stages][kPagedKeyTile * D];
  int slots[2][kPagedKeyTile];  // of key tiles j and j + 1; -1 = no such key
};

// The keys at positions [from, middle), then [middle, end), in tiles that begin anew at `middle`;
// `table` names the sequence's blocks.
struct Keys {
  int from;
  int middle;
  int end;
  const std::int32_t* table;

  __device__ int tiles() const {
    return (middle - from + kPagedKeyTile - 1) / kPagedKeyTile +
           (end - middle + kPagedKeyTile - 1) / kPagedKeyTile;
  }
  // The first position of tile j, and how many keys it has.
  __device__ int2 tile(int j) const {
    const int before = (middle - from + kPagedKeyTile - 1) / kPagedKeyTile;
    const int begin = j < before ? from + j * kPagedKeyTile : middle + (j - before) * kPagedKeyTile;
    return {begin, min(kPagedKeyTile, (j < before ? middle : end) - begin)};
  }
};

// The slots of tile j, by the first 64 threads.
__device__ inline void find_slots(int* slots, const Keys& keys, int j, int block_size) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= kPagedKeyTile) return;
  int slot = -1;
  if (j < keys.tiles()) {
    const int2 tile = keys.tile(j);
    if (i < tile.y) {
      const auto position = static_cast<unsigned>(tile.x + i);
      const auto size = static_cast<unsigned>(block_size);
      const unsigned block = position / size;
      slot = keys.table[block] * block_size + static_cast<int>(position - block * size);
    }
  }
  slots[i] = slot;
}

// Starts the copy of a tile's rows of one head; rows that are not there become zeros.
template <int D>
__device__ inline void copy_tile(bf16* shared, const bf16* head, int stride, const int* slots) {
  constexpr int kChunks = D / 8;
#pragma unroll
  for (int i = static_cast<int>(threadIdx.x); i < kPagedKeyTile * kChunks; i += kThreads) {
    const int row = i / kChunks;
    const int chunk = i % kChunks;
    const int slot = slots[row];
    const bf16* from = head + std::int64_t{max(slot, 0)} * stride + chunk * 8;
    copy_async(shared + attention::chunk_at<D>(row, chunk), from, slot >= 0);
  }
}

// 16 rows' scores of a key tile: [16 keys][8 keys][a lane's four].
using Scores = float[kPagedKeyTile / 16][2][4];

// A lane's share of its warp's 16 rows: rows g and g + 8, columns 2 t, 2 t + 1 of every 8.
template <int D>
struct RowState {
  unsigned q[D / 16][4];                  // operand A of scores
  float o[D / 8][4] = {};                 // not yet divided by the sum
  float max[2] = {-INFINITY, -INFINITY};  // in units of log2
  float sum[2] = {0.0f, 0.0f};            // this lane's part of it
  int visible[2] = {};                    // the row sees the positions before this

  // Turns scores of the keys at `begin` into p, with those that a row does not see as 0.
  __device__ void softmax_step(Scores& s, float scale, int begin, int count, bool masked) {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (masked) {
        const int seen = min(count, visible[h] - begin) - 2 * t;
#pragma unroll
        for (int n = 0; n < kPagedKeyTile / 8; ++n) {
          if (8 * n >= seen) s[n / 2][n % 2][2 * h] = -INFINITY;
          if (8 * n + 1 >= seen) s[n / 2][n % 2][2 * h + 1] = -INFINITY;
        }
      }
      float most = -INFINITY;
#pragma unroll
      for (int n = 0; n < kPagedKeyTile / 8; ++n) {
        most = fmaxf(most, fmaxf(s[n / 2][n % 2][2 * h], s[n / 2][n % 2][2 * h + 1]));
      }
      most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, 1));
      most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, 2));
      most = fmaxf(max[h], most * scale);  // finite: every row sees a key of its first tile
      const float shrink = exp2_fast(max[h] - most);
      max[h] = most;
      float added = 0.0f;
#pragma unroll
      for (int n = 0; n < kPagedKeyTile / 8; ++n) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float& x = s[n / 2][n % 2][2 * h + c];
          x = exp2_fast(fmaf(x, scale, -most));
          added += x;
        }
      }
      sum[h] = sum[h] * shrink + added;
#pragma unroll
      for (int d = 0; d < D / 8; ++d) {
        o[d][2 * h] *= shrink;
        o[d][2 * h + 1] *= shrink;
      }
    }
  }

  // The row's whole sum, in each of its four lanes.
  __device__ float row_sum(int h) const {
    float x = sum[h];
    x += __shfl_xor_sync(kAllLanes, x, 1);
    return x + __shfl_xor_sync(kAllLanes, x, 2);
  }
};

// A head of the cache.
struct CacheHead {
  const bf16* k;
  const bf16* v;
  int stride;  // elements from slot to slot
  int block_size;
};

// Takes all rows through all keys. `deepest` = the most positions that a row of this warp sees, 0
// for a warp without rows; rows that are not there have visible = INT_MAX and q = 0. Called by the
// whole block, once.
template <int D, int Stages>
__device__ inline void attend(RowState<D>& state, Ring<D, Stages>& ring, const Keys& keys,
                              const CacheHead& head, float scale, int deepest) {
  const int tiles = keys.tiles();
  const auto copy_keys = [&](int j) {
    if (j < tiles) {
      copy_tile<D>(ring.keys[j % Stages], head.k, head.stride, ring.slots[j % 2]);
    }
    commit_copies();
  };
  const auto copy_values = [&](int j) {
    if (j < tiles) {
      copy_tile<D>(ring.values[j % Stages], head.v, head.stride, ring.slots[j % 2]);
    }
    commit_copies();
  };
#pragma unroll
  for (int j = 0; j < Stages; ++j) find_slots(ring.slots[j % 2], keys, j, head.block_size);
  __syncthreads();
#pragma unroll
  for (int j = 0; j < Stages; ++j) {
    copy_keys(j);
    if (j + 1 < Stages) copy_values(j);
  }
  int shallowest = min(state.visible[0], state.visible[1]);
#pragma unroll
  for (int lane = 4; lane < kWarp; lane *= 2) {
    shallowest = min(shallowest, __shfl_xor_sync(kAllLanes, shallowest, lane));
  }
  for (int j = 0; j < tiles; ++j) {
    const int2 tile = keys.tile(j);
    const bool seen = deepest > tile.x;
    wait_copies<2 * Stages - 2>();
    __syncthreads();  // K_j has arrived; nobody reads V_{j-1} any more
    find_slots(ring.slots[(j + Stages) % 2], keys, j + Stages, head.block_size);
    copy_values(j + Stages - 1);
    Scores s;
    if (seen) {
#pragma unroll
      for (int n = 0; n < kPagedKeyTile / 16; ++n) {
        attention::multiply_rows<D>(s[n], state.q, ring.keys[j % Stages], 16 * n);
      }
    }
    wait_copies<2 * Stages - 2>();
    __syncthreads();  // V_j has arrived; nobody reads K_j any more
    copy_keys(j + Stages);
    if (seen) {
      const bool masked = tile.y < kPagedKeyTile || shallowest < tile.x + kPagedKeyTile;
      state.softmax_step(s, scale, tile.x, tile.y, masked);
#pragma unroll
      for (int n = 0; n < kPagedKeyTile / 16; ++n) {
        attention::add_rows<D>(state.o, s[n], ring.values[j % Stages], 16 * n);
      }
    }
  }
}

// The heads of a KV head that one tile has: 64 at most, the whole group as a rule.
struct TileHeads {
  int kv_head;
  int first;  // query head
  int count;
};
__host__ __device__ inline int head_tiles(const PagedShape& s) {
  return (s.heads / s.kv_heads + kPagedTileRows - 1) / kPagedTileRows;
}
__device__ inline TileHeads tile_heads(const PagedShape& s, int index) {
  const int repeat = s.heads / s.kv_heads;
  const int tiles = head_tiles(s);
  const int kv_head = index / tiles;
  const int skipped = index % tiles * kPagedTileRows;
  return {kv_head, kv_head * repeat + skipped, min(repeat - skipped, kPagedTileRows)};
}

// A lane's quarter of a row of q, as operand A; zeros for a null row.
template <int D>
__device__ inline void load_query(RowState<D>& state, int h, const bf16* row) {
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int d = 0; d < D / 16; ++d) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      state.q[d][h + 2 * i] =
          row == nullptr ? 0u : *reinterpret_cast<const unsigned*>(row + d * 16 + i * 8 + 2 * t);
    }
  }
}

// Launches kernel<D> with `bytes` of dynamic shared memory, beyond 48 KB too.
template <typename... Args>
cudaError_t launch(cudaStream_t stream, void (*kernel)(Args...), dim3 grid, std::size_t bytes,
                   Args... args) {
  if (bytes > 48 * 1024) {
    const cudaError_t code = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
    if (code != cudaSuccess) return code;
  }
  kernel<<<grid, kThreads, bytes, stream>>>(args...);
  return cudaGetLastError();
}

}  // namespace qgrpo::cuda::kernels::paged
