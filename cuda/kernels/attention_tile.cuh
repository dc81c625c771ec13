#pragma once

#include "cuda/kernels/attention_types.h"
#include "cuda/kernels/common/mma.cuh"
#include "cuda/kernels/common/pack.cuh"

// What the attention kernels over segments share: blocks of 4 warps, a warp 16 rows; tiles of rows
// of D bf16 in shared memory; products of 16 rows with 16 rows of a tile.
//
// A tile has no padding: the 16-byte chunk c of row r lies at chunk c ^ swizzle(r). For D = 128 and
// 64 that is r & 7; the 8 rows that a phase of ldmatrix reads at one c, and the 8 chunks of a row
// that a phase of cp.async writes, then cover the 32 banks once. Shorter rows share a line of 128
// bytes: two at D = 32, where (r / 2) & 3 does it, four at D = 16 with (r / 4) & 1. Rows of a
// fragment begin at multiples of 8, so the swizzle depends on the lane alone, and stepping along
// a row is one XOR: D is a power of two, and the chunk's bits lie below the row's.
namespace qgrpo::cuda::kernels::attention {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr float kLog2e = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

template <int D>
__device__ inline int swizzle(int row) {
  static_assert(D == 16 || D == 32 || D == 64 || D == 128, "rows of 2, 4, 8 or 16 chunks");
  if constexpr (D >= 64) return row & 7;
  if constexpr (D == 32) return row >> 1 & 3;
  return row >> 2 & 1;
}
// Where chunk `chunk` (8 values) of a row begins in a tile, in values.
template <int D>
__device__ inline int chunk_at(int row, int chunk) {
  return row * D + (chunk ^ swizzle<D>(row)) * 8;
}

// 2^x: 0 for -infinity and below 2^-126.
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

// The two values of a register, the lower address first.
__device__ inline float2 unpack_bf16(unsigned pair) {
  return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}

// The first of this warp's 16 rows of a tile; through a shuffle, so that ptxas knows that it is the
// same in all lanes and keeps it, and what follows from it, in uniform registers.
__device__ inline int first_row_of_warp() {
  return __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarp, 0) * 16;
}

// threadIdx.x, read anew: what is computed from it then is not kept in registers across the
// products, where none are left at D = 128.
__device__ inline int thread_anew() {
  unsigned thread;
  asm volatile("mov.u32 %0, %%tid.x;\n" : "=r"(thread));
  return static_cast<int>(thread);
}

// Rows of one head in a tensor (T, width): row r begins at data + r * width + column.
struct HeadRows {
  int width;
  int column;
  __device__ std::int64_t at(int row) const { return std::int64_t{row} * width + column; }
};

// Starts the copy of rows [row, row + count) into a tile of kRows; its other rows become zeros. A
// thread's rows are multiples of 8 apart: one place in the tile and one pointer, stepped.
template <int D, int kRows>
__device__ inline void copy_rows(bf16* tile, const bf16* data, HeadRows rows, int row, int count) {
  constexpr int kChunks = D / 8;
  constexpr int kStep = kThreads / kChunks;
  static_assert(kStep % 8 == 0, "the swizzle is that of the first row");
  const int thread = thread_anew();
  const int first = thread / kChunks;
  const int chunk = thread % kChunks;
  bf16* to = tile + chunk_at<D>(first, chunk);
  const bf16* from = data + rows.at(row + first) + chunk * 8;
#pragma unroll
  for (int r = 0; r < kRows; r += kStep) {
    if (kRows % kStep == 0 || r + first < kRows) copy_async(to + r * D, from, r + first < count);
    from += std::int64_t{kStep} * rows.width;
  }
}

// Which 16 bytes of 16 rows and 16 columns a lane names to ldmatrix: matrices 0 and 1 are rows 0 to
// 7 and 8 to 15 of the first 8 columns, 2 and 3 those of the others. All products use this one
// place.
template <int D>
__device__ inline int fragment_at() {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  return chunk_at<D>(lane % 16, lane / 16);
}

// a (16 x D) = this warp's rows [row, row + 16) of a tile, as the left operand of products.
template <int D>
__device__ inline void load_left(unsigned (&a)[D / 16][4], const bf16* tile, int row) {
  const int at = fragment_at<D>();
#pragma unroll
  for (int d = 0; d < D / 16; ++d) load_matrices(a[d], tile + row * D + (at ^ d * 16));
}

// s (16 x 16) = a r^T, r = rows [row, row + 16) of a tile: 16 products at D = 128.
template <int D>
__device__ inline void multiply_rows(float (&s)[2][4], const unsigned (&a)[D / 16][4],
                                     const bf16* tile, int row) {
  const int at = fragment_at<D>();
#pragma unroll
  for (int i = 0; i < 4; ++i) s[0][i] = s[1][i] = 0.0f;
#pragma unroll
  for (int d = 0; d < D / 16; ++d) {
    unsigned b[4];
    load_matrices(b, tile + row * D + (at ^ d * 16));
    mma_bf16(s[0], a[d], b[0], b[2]);
    mma_bf16(s[1], a[d], b[1], b[3]);
  }
}

// c (16 x D) += w r, w (16 x 16) in the layout that multiply_rows gives, rounded to bf16 here, and
// r = rows [row, row + 16) of a tile.
template <int D>
__device__ inline void add_rows(float (&c)[D / 8][4], const float (&w)[2][4], const bf16* tile,
                                int row) {
  const unsigned a[4] = {pack_bf16(w[0][0], w[0][1]), pack_bf16(w[0][2], w[0][3]),
                         pack_bf16(w[1][0], w[1][1]), pack_bf16(w[1][2], w[1][3])};
  const int at = fragment_at<D>();
#pragma unroll
  for (int d = 0; d < D / 16; ++d) {
    unsigned b[4];
    load_matrices_transposed(b, tile + row * D + (at ^ d * 16));
    mma_bf16(c[2 * d], a, b[0], b[1]);
    mma_bf16(c[2 * d + 1], a, b[2], b[3]);
  }
}

// data's rows [row, row + count) = bf16(factor[h] c), this warp's 16 rows at most, turned into
// 16-byte stores through its part of a tile, which no other warp may be using.
template <int D>
__device__ inline void store_rows(bf16* data, HeadRows rows, int row, int count, bf16* part,
                                  const float (&c)[D / 8][4], const float (&factor)[2]) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
#pragma unroll
    for (int d = 0; d < D / 8; ++d) {
      *reinterpret_cast<unsigned*>(part + chunk_at<D>(lane / 4 + 8 * h, d) + lane % 4 * 2) =
          pack_bf16(c[d][2 * h] * factor[h], c[d][2 * h + 1] * factor[h]);
    }
  }
  __syncwarp();
  constexpr int kChunks = D / 8;
#pragma unroll
  for (int i = lane; i < 16 * kChunks; i += kWarp) {
    const int r = i / kChunks;
    const int chunk = i % kChunks;
    if (r < count) {
      *reinterpret_cast<uint4*>(data + rows.at(row + r) + chunk * 8) =
          *reinterpret_cast<const uint4*>(part + chunk_at<D>(r, chunk));
    }
  }
  __syncwarp();
}

// Keys [begin, begin + count) of the packed batch, and the walk of a query tile over its keys: the
// parent's from the parent's start, then the segment's own from its start, up to the last query.
struct KeyRows {
  int begin;
  int count;
};
template <int kKeys>
struct KeyWalk {
  const QueryTile& tile;

  __device__ int parent_steps() const { return (tile.parent_length + kKeys - 1) / kKeys; }
  __device__ int steps() const {
    return parent_steps() + (tile.query + tile.queries - tile.own + kKeys - 1) / kKeys;
  }
  __device__ KeyRows at(int step) const {
    const int own_step = step - parent_steps();
    if (own_step < 0) {
      const int done = step * kKeys;
      return {tile.parent + done, min(kKeys, tile.parent_length - done)};
    }
    const int done = own_step * kKeys;
    return {tile.own + done, min(kKeys, tile.query + tile.queries - tile.own - done)};
  }
};

}  // namespace qgrpo::cuda::kernels::attention
