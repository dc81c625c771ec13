// Attention of decode rows, one query token each, over the paged cache:
//
//   parts   of each split of a row's keys:  m = max s,  l = sum exp2(s - m),  o = sum exp2(s - m) v
//   merge   o = sum_i exp2(m_i - m) o_i / sum_i exp2(m_i - m) l_i,  i in order,  m = max m_i;
//           by the block that finishes the row's last part (a counter)
//
// with s = q k^T log2(e) / sqrt(D) (paged_attention_tile.cuh has the walk over a split). Splits are
// 256 keys (cuda/sizes/paged_attention.h), counted from the prompt's start and anew from its end:
// what a row sums, and in which order, depends on its prompt's length and its context alone, so its
// bits are the same alone and in a group, whatever its neighbours, the padding, or the launch's
// bounds.
//
// Sharing: a tile is 64 rows = the query heads of one KV head, of as many neighbours of a group as
// fit (8 x 8 on the 3B shape, 9 x 7 on the 0.5B); the prompt's splits are read once for all of
// them. More completions take further tiles, whose reads meet in L2. Behind the prompt a tile has
// the heads of one row.
//
// Launch: grid (splits, rows, KV heads), 4 warps; block (i, row) takes split i of the tile that
// begins at `row`, if there is one, so that the grid depends on the host's bounds alone and a
// recorded graph serves every length; blocks without work leave after a few loads. Registers
// (ptxas, sm_80 / sm_89, no spills): 218 / 218 at D = 128, 148 / 148 at 64, 117 / 117 at 32, 96 /
// 96 at 16. Shared memory: 66 KB at D = 128, 33 at 64, 17 at 32, 9 at 16: two key and two value
// tiles.
//
// Bytes in flight at D = 128: 48 KB a block; one block on an SM of sm_89 (100 KB), two of sm_80.
// Bandwidth times latency is 3.1 KB an SM on an L4, 8.6 KB on an A100, so 34 blocks (below) on 58
// or 108 SMs still cover it. One warp does a 64-key tile's 128 products at D = 128 in about 1 to 2
// thousand cycles (predicted); an SM's share of DRAM brings the 32 KB in 12.6 thousand on an L4,
// 3.2 thousand on an A100: the other three warps of a tile with 8 rows only help copying.
//
// 3B, 8 completions of one prompt of 256, contexts of 768: 34 blocks with work.
//   keys and values   (256 + 8 x 512) x 1024 B = 4456 KB: once each, the minimum
//   q, o              3 x 33 + 33 KB  (q once a split)          minimum 66 KB
//   parts and states  3 splits x 8 x 16 x 520 B, written and read = 399 KB, mostly L2's
//   sum               4987 KB = 1.10 of the minimum of 4522 KB (splits of 128 would make it 1.19)
// softgpu counts 4923 KB of distinct bytes read and written, 1.09 of the minimum, and 5171 KB of
// sectors, 1.144 (q is asked for in halves of a sector, states once by each warp of merge); no bank
// conflicts; 20,480 products.
//
// Tried: the merge as a second kernel, the same bits; a launch more a layer.

#include "cuda/kernels/paged_attention_tile.cuh"

namespace qgrpo::cuda::kernels {
namespace {

using namespace paged;

constexpr int kStages = 2;

struct Args {
  bf16* o;
  float* parts;        // (rows, heads, splits, D)
  float2* states;      // (rows, heads, splits)
  unsigned* counters;  // (rows, the grid's z): parts that are done; 0 between launches
  const bf16* q;
  PagedCache cache;
  PagedShape shape;
  PagedRows rows;
  int tile_tokens;
  int split;
  float scale_log2;  // log2(e) / sqrt(D)
};

// How a row's keys are divided.
struct RowKeys {
  bool active;
  int context;        // keys that it sees; 0 when it is not active
  int prompt;         // where the splits begin anew
  int prompt_splits;  // before that
  int splits;         // in all
};
__device__ RowKeys row_keys(const PagedRows& rows, int row, int split) {
  RowKeys r;
  r.active = rows.active[row] != 0;
  r.context = r.active ? rows.positions[row] + 1 : 0;
  r.prompt = rows.prompt_length[row];
  // Alone, the row may still be within its prompt.
  if (rows.group_size[row] == 1) r.prompt = min(r.prompt, r.context);
  r.prompt_splits = (r.prompt + split - 1) / split;
  r.splits = r.active ? r.prompt_splits + (r.context - r.prompt + split - 1) / split : 0;
  return r;
}

// o of a row's heads = its parts, in order; 0 where it has none. A thread 4 columns of a head.
template <int D>
__device__ void merge(const Args& p, int row, const TileHeads& heads, int count) {
  constexpr int kEach = D / 4;  // threads of a head
  const int splits = static_cast<int>(gridDim.x);
  const int column = threadIdx.x % kEach * 4;
  const int at = p.rows.query_rows == nullptr ? row : p.rows.query_rows[row];
  for (int i = static_cast<int>(threadIdx.x) / kEach; i < heads.count; i += kThreads / kEach) {
    const int head = heads.first + i;
    const std::int64_t first = (std::int64_t{row} * p.shape.heads + head) * splits;
    // Other blocks wrote them: from L2.
    float most = -INFINITY;
    for (int j = 0; j < count; ++j) most = fmaxf(most, __ldcg(p.states + first + j).x);
    float sum = 0.0f, out[4] = {};
    for (int j = 0; j < count; ++j) {
      const float2 state = __ldcg(p.states + first + j);
      const float weight = exp2_fast(state.x - most);
      const float4 part =
          __ldcg(reinterpret_cast<const float4*>(p.parts + (first + j) * D + column));
      sum = fmaf(weight, state.y, sum);
      out[0] = fmaf(weight, part.x, out[0]);
      out[1] = fmaf(weight, part.y, out[1]);
      out[2] = fmaf(weight, part.z, out[2]);
      out[3] = fmaf(weight, part.w, out[3]);
    }
    const float inverse = count > 0 ? 1.0f / sum : 0.0f;
    uint2 packed;
    packed.x = pack_bf16(out[0] * inverse, out[1] * inverse);
    packed.y = pack_bf16(out[2] * inverse, out[3] * inverse);
    *reinterpret_cast<uint2*>(p.o + (std::int64_t{at} * p.shape.heads + head) * D + column) =
        packed;
  }
}

// Counts this block's part for each row of its tile; the block that adds a row's last part merges
// them and leaves the counter at 0 for the next launch.
template <int D>
__device__ void finish(const Args& p, int first, int tokens, const TileHeads& heads) {
  __shared__ int finished[kPagedTileRows];  // the row's parts, where this block has the last one
  __threadfence();                          // whoever sees the count sees the parts
  __syncthreads();
  const int i = static_cast<int>(threadIdx.x);
  if (i < tokens) {
    const RowKeys of = row_keys(p.rows, first + i, p.split);
    unsigned* counter = p.counters + std::int64_t{first + i} * gridDim.z + blockIdx.z;
    const bool last = of.active && atomicAdd(counter, 1u) == static_cast<unsigned>(of.splits) - 1u;
    if (last) *counter = 0;
    finished[i] = last ? of.splits : 0;
  }
  __syncthreads();
  for (int row = 0; row < tokens; ++row) {
    if (finished[row] == 0) continue;
    __threadfence();
    merge<D>(p, first + row, heads, finished[row]);
  }
}

template <int D>
__global__ void __launch_bounds__(kThreads) paged_decode_kernel(Args p) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  auto& ring = *reinterpret_cast<Ring<D, kStages>*>(shared_bytes);
  const int split = static_cast<int>(blockIdx.x);
  const int first = static_cast<int>(blockIdx.y);
  const RowKeys of = row_keys(p.rows, first, p.split);
  const TileHeads heads = tile_heads(p.shape, static_cast<int>(blockIdx.z));
  if (split == 0 && !of.active) merge<D>(p, first, heads, 0);
  int tokens = 1, begin, end;
  if (split < of.prompt_splits) {
    // Of the prompt: the tile's first row stands for all of its rows.
    const int before = first - p.rows.group_first[first];
    if (before % p.tile_tokens != 0) return;
    tokens = min(p.tile_tokens, p.rows.group_size[first] - before);
    begin = split * p.split;
    end = min(begin + p.split, of.prompt);
  } else {
    begin = of.prompt + (split - of.prompt_splits) * p.split;
    end = min(begin + p.split, of.context);
    if (begin >= end) return;
  }

  RowState<D> state;
  std::int64_t place[2];  // of the row's part; -1 = no such row, or it is not active
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int tile_row =
        static_cast<int>(threadIdx.x) / kWarp * 16 + threadIdx.x % kWarp / 4 + 8 * h;
    const int row = first + tile_row / heads.count;
    const int query_head = heads.first + tile_row % heads.count;
    const bool there = tile_row < tokens * heads.count && p.rows.active[row] != 0;
    const bf16* query = nullptr;
    place[h] = -1;
    if (there) {
      place[h] =
          (std::int64_t{row} * p.shape.heads + query_head) * static_cast<int>(gridDim.x) + split;
      const int at = p.rows.query_rows == nullptr ? row : p.rows.query_rows[row];
      query = p.q + (std::int64_t{at} * p.shape.heads + query_head) * D;
    }
    state.visible[h] = INT_MAX;  // all of [begin, end)
    load_query<D>(state, h, query);
  }
  const bool any = place[0] >= 0 || place[1] >= 0;
  if (!__syncthreads_or(any)) return;
  const int deepest = __any_sync(kAllLanes, any) ? INT_MAX : 0;
  const Keys keys{begin, begin, end, p.rows.block_tables + std::int64_t{first} * p.rows.max_blocks};
  const CacheHead head{p.cache.k + heads.kv_head * D, p.cache.v + heads.kv_head * D,
                       p.shape.kv_heads * D, p.cache.block_size};
  attend<D, kStages>(state, ring, keys, head, p.scale_log2, deepest);

  const int t = threadIdx.x % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const float sum = state.row_sum(h);
    if (place[h] < 0) continue;
    if (t == 0) p.states[place[h]] = {state.max[h], sum};
    float* to = p.parts + place[h] * D + 2 * t;
#pragma unroll
    for (int d = 0; d < D / 8; ++d) {
      *reinterpret_cast<float2*>(to + d * 8) = {state.o[d][2 * h], state.o[d][2 * h + 1]};
    }
  }
  finish<D>(p, first, tokens, heads);
}

}  // namespace

cudaError_t paged_decode_attention(cudaStream_t stream, bf16* o, float* parts, float2* states,
                                   unsigned* counters, const bf16* q, PagedCache cache,
                                   PagedShape shape, PagedRows rows, int split, int splits) {
  if (rows.rows == 0) return cudaSuccess;
  const float scale_log2 = kLog2e / sqrtf(static_cast<float>(shape.dim));
  const Args p{o,     parts,     states, counters, q, cache, shape, rows, paged_tile_tokens(shape),
               split, scale_log2};
  const dim3 grid(static_cast<unsigned>(splits), static_cast<unsigned>(rows.rows),
                  static_cast<unsigned>(shape.kv_heads * head_tiles(shape)));
  switch (shape.dim) {
    case 16:
      return launch(stream, paged_decode_kernel<16>, grid, sizeof(Ring<16, kStages>), p);
    case 32:
      return launch(stream, paged_decode_kernel<32>, grid, sizeof(Ring<32, kStages>), p);
    case 64:
      return launch(stream, paged_decode_kernel<64>, grid, sizeof(Ring<64, kStages>), p);
    case 128:
      return launch(stream, paged_decode_kernel<128>, grid, sizeof(Ring<128, kStages>), p);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace qgrpo::cuda::kernels
