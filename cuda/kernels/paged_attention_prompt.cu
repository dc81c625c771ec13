// Attention of prompts' chunks over the paged cache, in one pass:
//
//   o = softmax(q k^T / sqrt(D)) v        over the keys in the cache up to each query's own
//
// (paged_attention_tile.cuh has the walk over the keys: from 0 to the prompt's end, then anew from
// there.) A row's bits do not depend on how its prompt was cut into chunks.
//
// Shapes: q, o (rows, NH * D) bf16; cache (blocks, block size, NKV * D) bf16; D = 16, 32, 64, 128.
// Launch: grid (tiles, KV heads), 4 warps. A tile is 64 rows = the query heads of a KV head, of as
// many neighbouring tokens as fit: 8 tokens x 8 heads on the 3B shape. So a tile sees at most 7
// keys more than its first row needs (64 tokens of one head would see 63 more), and each key tile
// is read once for all heads of its group; warps whose rows see nothing of a key tile skip it. Long
// tiles start first.
//
// Registers (ptxas, sm_80 / sm_89, no spills): 210 / 212 at D = 128, so 2 blocks an SM, 153 / 155
// at 64 (3 blocks), 117 / 119 at 32, 95 / 96 at 16. Shared memory: 33 KB at D = 128 (one key and
// one value tile, each copied while the other is used) and at 64 (two of each), 17 and 9 KB below.
//
// At 3B a key tile of 64 costs a warp 128 products, 64 ldmatrix.x4, 32 exp2 a lane, and a thread 16
// cp.async with their slots (found once a tile by 64 threads, one division each). A chunk of 512
// at the end of a context of 2048: 128 blocks, 28 tiles each on average, 119 MB through L2 for 7.5
// GFLOP (the layer's linears: 79). 64 FLOP a byte is near what L2 can feed at the tensor cores'
// peak (predicted); tiles of 128 rows would halve the bytes and take one block an SM on sm_89.

#include "cuda/kernels/paged_attention_tile.cuh"

namespace qgrpo::cuda::kernels {
namespace {

using namespace paged;

// One key and value tile at D = 128, so that two blocks fit an SM of compute capability 8.9.
template <int D>
constexpr int kStages = D == 128 ? 1 : 2;

struct Args {
  bf16* o;
  const bf16* q;
  PagedCache cache;
  PagedShape shape;
  const PromptTile* tiles;
  const std::int32_t* tables;
  float scale_log2;  // log2(e) / sqrt(D)
};

template <int D>
__global__ void __launch_bounds__(kThreads) paged_prompt_kernel(Args p) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  auto& ring = *reinterpret_cast<Ring<D, kStages<D>>*>(shared_bytes);
  // The last tiles see the most keys: they start first.
  const PromptTile tile = p.tiles[gridDim.x - 1 - blockIdx.x];
  const TileHeads heads = tile_heads(p.shape, static_cast<int>(blockIdx.y));
  const int end = tile.visible + tile.tokens - 1;  // what the last token sees
  const Keys keys{0, min(tile.prompt, end), end, p.tables + tile.table};
  const int stride = p.shape.kv_heads * D;
  const CacheHead head{p.cache.k + heads.kv_head * D, p.cache.v + heads.kv_head * D, stride,
                       p.cache.block_size};

  RowState<D> state;
  std::int64_t place[2];  // of the row in q and o; -1 = no such row
  int deepest = 0;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int row = static_cast<int>(threadIdx.x) / kWarp * 16 + threadIdx.x % kWarp / 4 + 8 * h;
    const int token = row / heads.count;
    const bool there = token < tile.tokens;
    place[h] =
        there
            ? (std::int64_t{tile.query + token} * p.shape.heads + heads.first + row % heads.count) *
                  D
            : -1;
    state.visible[h] = there ? tile.visible + token : INT_MAX;
    if (there) deepest = state.visible[h];
    load_query<D>(state, h, there ? p.q + place[h] : nullptr);
  }
#pragma unroll
  for (int lane = 4; lane < kWarp; lane *= 2) {
    deepest = max(deepest, __shfl_xor_sync(kAllLanes, deepest, lane));
  }
  attend<D, kStages<D>>(state, ring, keys, head, p.scale_log2, deepest);

#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const float inverse = 1.0f / state.row_sum(h);
    if (place[h] < 0) continue;
    bf16* to = p.o + place[h] + 2 * (threadIdx.x % 4);
#pragma unroll
    for (int d = 0; d < D / 8; ++d) {
      *reinterpret_cast<unsigned*>(to + d * 8) =
          pack_bf16(state.o[d][2 * h] * inverse, state.o[d][2 * h + 1] * inverse);
    }
  }
}

template <int D>
cudaError_t launch_dim(cudaStream_t stream, dim3 grid, const Args& p) {
  return launch(stream, paged_prompt_kernel<D>, grid, sizeof(Ring<D, kStages<D>>), p);
}

}  // namespace

cudaError_t paged_prompt_attention(cudaStream_t stream, bf16* o, const bf16* q, PagedCache cache,
                                   PagedShape shape, const PromptTile* tiles,
                                   std::int64_t tile_count, const std::int32_t* tables) {
  if (tile_count == 0) return cudaSuccess;
  const float scale_log2 = kLog2e / sqrtf(static_cast<float>(shape.dim));
  const Args p{o, q, cache, shape, tiles, tables, scale_log2};
  const dim3 grid(static_cast<unsigned>(tile_count),
                  static_cast<unsigned>(shape.kv_heads * head_tiles(shape)));
  switch (shape.dim) {
    case 16:
      return launch_dim<16>(stream, grid, p);
    case 32:
      return launch_dim<32>(stream, grid, p);
    case 64:
      return launch_dim<64>(stream, grid, p);
    case 128:
      return launch_dim<128>(stream, grid, p);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace qgrpo::cuda::kernels
