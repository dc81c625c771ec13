// Backward of attention over segments, second half: dk and dv, in one pass over the queries that
// see 64 keys.
//
//   p = exp(s - lse),  ds = p * (dO V^T - delta);  dv = p^T dO,  dk = ds^T Q / sqrt(D)
//
// lse and delta come from the first half (attention_queries.cu, which counts both halves'
// products). A key tile's queries are the rest of its segment, then, for a prompt, those of all
// its completions in order, in steps of 32; within a step the query heads of the KV head. So dk and
// dv of a shared prompt and of grouped heads are summed in registers and rounded once.
//
// Shapes: q, d_o (T, NH * D), k, v, dk, dv (T, NKV * D) bf16, statistics (NH, T) float2; D = 16,
// 32, 64, 128. Launch: 4 warps for 64 keys of one KV head, a warp 16 of them; grid (NKV, tasks),
// the longest tasks first.
//
//   D    registers (sm_80, sm_89; no spills)   shared memory   blocks an SM
//   128  255, 255                              32.5 KB         2
//   64   166, 166                              16.5 KB         3
//   32   110, 110                               8.5 KB         4
//   16    76,  76                               4.5 KB         6
//
// A warp computes s^T and dp^T (16 keys x 16 queries), whose layout is that of the left operand of
// the next two products. At D = 128 the fragments of K and V (64 registers) and the sums (128)
// leave 63, so pairs go 16 x 16 at a time and the addresses of copies are computed anew each stage.
// Q and dO come in double-buffered stages of 32 queries with their statistics, one barrier a stage.
// All device accesses are of 16 bytes but the statistics' 8 a row; no bank conflicts (softgpu
// counts 0 for every D).
//
// 16 queries at D = 128 are, for a warp, 64 mma and 32 ldmatrix.x4: some 240 instructions (sm_89).
// Predicted: 1024 clocks of a quarter SM's tensor cores on an L4, 512 on an A100. On the diagonal
// steps of 16 queries before a warp's first key are left out.
//
// Balance: behind a prompt of 256 tokens with 8 completions of 256, a tile of the prompt's keys has
// 2048 to 2304 queries, a completion's at most 256: on Qwen2.5-3B (8 heads on one, 2 KV heads) 8
// blocks would run eight times as long as any of the other 64. So a tile with 2 or more times 2048
// (query, head) rows is split into up to 8 parts (cuda/sizes/attention.h), here 64 blocks of about
// 2304 rows; their float32 sums, 4.2 MB here, are added in order by attention_sum_kernel (40
// registers; a block a tile and KV head, 32-byte reads).

#include <cmath>

#include "cuda/kernels/attention.h"
#include "cuda/kernels/attention_tile.cuh"

namespace qgrpo::cuda::kernels {
namespace {

using namespace attention;

struct Args {
  bf16* dk;
  bf16* dv;
  float* partial;
  const bf16* d_o;
  const bf16* q;
  const bf16* k;
  const bf16* v;
  const float2* statistics;
  const KeyTask* tasks;
  const QueryStep* steps;
  std::int64_t tokens;
  int heads;
  int kv_heads;
  int group;  // query heads of a KV head
  float scale;
  float scale_log2;  // scale log2(e)
};

// Starts the copy of 8 bytes; zeros where `valid` is false.
__device__ inline void copy_pair(float2* to, const float2* from, bool valid) {
  const int bytes = valid ? 8 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;\n" ::"r"(shared_address(to)),
               "l"(from), "r"(bytes)
               : "memory");
}

// 16 queries from `row` of the stage on: dv += p^T dO, dk += ds^T q. `first` is the query of the
// stage that is the first to see the warp's first key. Rows of queries that are not there are
// zeros, and so are their dO and delta: they add p * 0 and 0.
template <int D>
__device__ void add_queries(float (&dk)[D / 8][4], float (&dv)[D / 8][4],
                            const unsigned (&k)[D / 16][4], const unsigned (&v)[D / 16][4],
                            const bf16* queries, const bf16* d_o, const float2* statistics, int row,
                            float scale_log2, int first) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float p[2][4];
  float ds[2][4];
  multiply_rows<D>(p, k, queries, row);
  multiply_rows<D>(ds, v, d_o, row);
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const int column = row + 8 * e + 2 * (lane % 4);  // and the next
    const float4 both = *reinterpret_cast<const float4*>(statistics + column);
    const float lse[2] = {both.x, both.z};
    const float delta[2] = {both.y, both.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) p[e][i] = exp2_fast(p[e][i] * scale_log2 - lse[i % 2]);
    if (row < first + 15) {  // the diagonal
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (column + i % 2 < first + lane / 4 + 8 * (i / 2)) p[e][i] = 0.0f;
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) ds[e][i] = p[e][i] * (ds[e][i] - delta[i % 2]);
  }
  add_rows<D>(dv, p, d_o, row);
  add_rows<D>(dk, ds, queries, row);
}

// A lane's two columns of each 8 of its rows, as they are.
template <int D>
__device__ void store_partial(float* to, const float (&c)[D / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
#pragma unroll
    for (int d = 0; d < D / 8; ++d) {
      float* at = to + (lane / 4 + 8 * h) * D + d * 8 + lane % 4 * 2;
      *reinterpret_cast<float2*>(at) = make_float2(c[d][2 * h], c[d][2 * h + 1]);
    }
  }
}

template <int D>
__global__ void __launch_bounds__(kThreads, D == 128 ? 2 : 3) attention_keys_kernel(Args p) {
  constexpr int kTile = kQueryStep * D;
  __shared__ alignas(128) bf16 stages[2][2 * kTile];  // Q, then dO; first the block's keys, values
  __shared__ alignas(16) float2 statistics[2][kQueryStep];
  static_assert(2 * kQueryStep == kKeyTile, "a stage holds the keys or the values");
  const int kv_head = static_cast<int>(blockIdx.x);
  const KeyTask& task = p.tasks[blockIdx.y];
  const HeadRows kv_rows{p.kv_heads * D, kv_head * D};
  // Steps in order, and the query heads of the KV head within a step.
  const auto step_of = [&](int i) { return p.steps[task.first_step + i / p.group]; };
  const auto copy_stage = [&](int i) {
    const QueryStep step = step_of(i);
    const int stage = i % 2;
    const int head = kv_head * p.group + i % p.group;
    const HeadRows q_rows{p.heads * D, head * D};
    copy_rows<D, kQueryStep>(stages[stage], p.q, q_rows, step.query, step.queries);
    copy_rows<D, kQueryStep>(stages[stage] + kTile, p.d_o, q_rows, step.query, step.queries);
    if (threadIdx.x < kQueryStep) {
      const bool there = static_cast<int>(threadIdx.x) < step.queries;
      copy_pair(statistics[stage] + threadIdx.x,
                p.statistics + head * p.tokens + step.query + (there ? threadIdx.x : 0), there);
    }
    commit_copies();
  };
  const int warp_row = first_row_of_warp();

  copy_rows<D, kKeyTile>(stages[0], p.k, kv_rows, task.key, task.keys);
  copy_rows<D, kKeyTile>(stages[1], p.v, kv_rows, task.key, task.keys);
  commit_copies();
  wait_copies<0>();
  __syncthreads();
  unsigned k[D / 16][4];
  unsigned v[D / 16][4];
  load_left<D>(k, stages[0], warp_row);
  load_left<D>(v, stages[1], warp_row);
  __syncthreads();  // nobody reads keys or values any more

  float dk[D / 8][4] = {};
  float dv[D / 8][4] = {};
  const int count = task.steps * p.group;
  copy_stage(0);
  for (int i = 0; i < count; ++i) {
    wait_copies<0>();
    __syncthreads();  // this stage has arrived; nobody reads the other any more
    if (i + 1 < count) copy_stage(i + 1);
    if (warp_row >= task.keys) continue;
    const QueryStep step = step_of(i);
    const bf16* queries = stages[i % 2];
    // The query of the stage that is the first to see the warp's first key.
    const int first = task.key + warp_row - step.query;
#pragma unroll 1
    for (int n = 0; n < step.queries; n += 16) {
      if (first <= n + 15) {  // else none sees a key of the warp
        add_queries<D>(dk, dv, k, v, queries, queries + kTile, statistics[i % 2], n, p.scale_log2,
                       first);
      }
    }
  }

  if (task.slot >= 0) {
    const std::int64_t slot = std::int64_t{task.slot} * p.kv_heads + kv_head;
    float* to = p.partial + slot * (2 * kKeyTile * D) + warp_row * D;
    store_partial<D>(to, dk);
    store_partial<D>(to + kKeyTile * D, dv);
    return;
  }
  __syncthreads();  // nobody reads queries any more
  const int row = task.key + warp_row;
  const int rows = task.keys - warp_row;
  bf16* part = stages[0] + warp_row * D;
  store_rows<D>(p.dk, kv_rows, row, rows, part, dk, {p.scale, p.scale});
  store_rows<D>(p.dv, kv_rows, row, rows, part, dv, {1.0f, 1.0f});
}

struct SumArgs {
  bf16* dk;
  bf16* dv;
  const float* partial;
  const KeySum* sums;
  int kv_heads;
  int dim;
  float scale;
};

// A block adds the slots of one key tile and KV head, a thread 8 neighbouring values at a time.
__global__ void __launch_bounds__(256) attention_sum_kernel(SumArgs p) {
  const int kv_head = static_cast<int>(blockIdx.x);
  const KeySum sum = p.sums[blockIdx.y];
  const int values = kKeyTile * p.dim;
  for (int i = static_cast<int>(threadIdx.x) * 8; i < 2 * values; i += 256 * 8) {
    const bool is_value = i >= values;
    const int row = (is_value ? i - values : i) / p.dim;
    if (row >= sum.keys) continue;
    float total[8] = {};
    for (int slot = 0; slot < sum.slots; ++slot) {
      const std::int64_t at = std::int64_t{sum.first_slot + slot} * p.kv_heads + kv_head;
      float x[8];
      load(x, p.partial + at * 2 * values + i);
#pragma unroll
      for (int j = 0; j < 8; ++j) total[j] += x[j];
    }
    const float factor = is_value ? 1.0f : p.scale;
#pragma unroll
    for (int j = 0; j < 8; ++j) total[j] *= factor;
    const std::int64_t to =
        (std::int64_t{sum.key + row} * p.kv_heads + kv_head) * p.dim + i % p.dim;
    store((is_value ? p.dv : p.dk) + to, total);
  }
}

}  // namespace

cudaError_t attention_backward_keys(cudaStream_t stream, bf16* dk, bf16* dv, float* partial,
                                    const bf16* d_o, const bf16* q, const bf16* k, const bf16* v,
                                    const float2* statistics, const KeyTask* tasks,
                                    std::int64_t task_count, const QueryStep* steps,
                                    const AttentionSizes& sizes) {
  if (task_count == 0) return cudaSuccess;
  const float scale = 1.0f / sqrtf(static_cast<float>(sizes.dim));
  const Args p{dk,
               dv,
               partial,
               d_o,
               q,
               k,
               v,
               statistics,
               tasks,
               steps,
               sizes.tokens,
               sizes.heads,
               sizes.kv_heads,
               sizes.heads / sizes.kv_heads,
               scale,
               scale * kLog2e};
  const dim3 grid(static_cast<unsigned>(sizes.kv_heads), static_cast<unsigned>(task_count));
  switch (sizes.dim) {
    case 16:
      attention_keys_kernel<16><<<grid, kThreads, 0, stream>>>(p);
      break;
    case 32:
      attention_keys_kernel<32><<<grid, kThreads, 0, stream>>>(p);
      break;
    case 64:
      attention_keys_kernel<64><<<grid, kThreads, 0, stream>>>(p);
      break;
    case 128:
      attention_keys_kernel<128><<<grid, kThreads, 0, stream>>>(p);
      break;
    default:
      return cudaErrorInvalidValue;
  }
  return cudaGetLastError();
}

cudaError_t attention_backward_sum(cudaStream_t stream, bf16* dk, bf16* dv, const float* partial,
                                   const KeySum* sums, std::int64_t sum_count,
                                   const AttentionSizes& sizes) {
  if (sum_count == 0) return cudaSuccess;
  const float scale = 1.0f / sqrtf(static_cast<float>(sizes.dim));
  const SumArgs p{dk, dv, partial, sums, sizes.kv_heads, sizes.dim, scale};
  const dim3 grid(static_cast<unsigned>(sizes.kv_heads), static_cast<unsigned>(sum_count));
  attention_sum_kernel<<<grid, 256, 0, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace qgrpo::cuda::kernels
