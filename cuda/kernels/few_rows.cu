// Products of a few rows with an NF4 or bf16 matrix: what a decode step is made of.
//
//   y = epilogue(x W^T + t B^T),   t = bf16(scale * x A^T) of each row's adapter
//   epilogue: bf16([residual +] sum + bias), float32, bf16(scale * sum), or SwiGLU of two matrices
//
// Shapes: x (m, K) bf16, m <= 64; W (N, K); B (N, R), R padded to 8. A launch has up to 12 such
// products of one x ("parts"): q, k and v; gate and up; the A's of all their adapters.
//
// Launch: a block makes 32 outputs of all rows (16 of gate and 16 of up), 64 above 16 rows and of
// logits. Its four warps take every fourth step of K (128 weights of NF4, 32 of bf16), their sums
// are added in the warps' order. K is split over blocks besides (few_rows_splits: two blocks an
// SM): the last block of a tile adds the parts' float32 sums in their order. No float atomics; an
// output's order of summation depends on K, the splits (known from N, K and the device) and R
// alone.
//
// Tensor cores: W is the 16-row operand of m16n8k16, x the 8-column one, so 8 rows waste nothing.
// The k index of a product may be permuted at will, if both operands are permuted alike: lane (g,
// t) of a warp takes 16 neighbouring bytes of rows g and g + 8 of W, 32 weights of NF4 for 8
// products, or 8 of bf16 for two, and of x the same k. The file's own layout feeds the tensor
// cores, so the matrix is not repacked: a warp's load is 8 rows x 64 bytes, whole sectors, and the
// four warps of a block read 256 neighbouring bytes of a row. B goes the same way, as steps behind
// those of K.
//
// Copies: each lane copies its 16 bytes with cp.async (evict-first: weights are read once a token)
// into a ring of its own in shared memory and reads them back itself: no barrier in the loop, no
// bank conflict. 3 or 4 stages of 2 KB a warp: a block has 16 KB in flight, an SM of an L4 48 KB
// (3.1 KB are needed: bandwidth times latency over the SMs), of an A100 64 KB (8.6 KB). Scales (a
// byte and its second-level maximum a row and step) come one step ahead in registers, x a quarter
// step ahead, from L1 and L2.
//
// NF4 look-ups: the 16 codes lie in shared memory once a lane (bank = lane), at 256 * code + 4 *
// lane, an address that one PRMT makes of a word of nibbles: PRMT, LDS, FMUL a weight, and half a
// conversion and 3/8 of unpacking: 3.9 instructions; the SASS loop of 8 rows has about 690 for a
// step of 128 weights a lane (the rest is addresses, scales and x): 5.4 a weight, so that 4
// instructions a clock make 24 weights a clock and SM. DRAM brings 5 on an L4 and 20 on an A100.
// The look-ups take one bank cycle for 32 weights: 32 a clock.
//
//               registers (sm_80, sm_89)   shared memory   blocks an SM (L4, A100)
//   NF4   8          123, 123                 28 KB              3, 4
//        16          128, 128                 28 KB              3, 4
//        32          165, 163                 52 KB              1, 1
//        64          225, 225                 52 KB              1, 1
//   bf16  8           82,  82                 32 KB              3, 4
//        16           96,  96                 32 KB              3, 4
//        32          124, 124                 64 KB              1, 2
//        64          168, 168                 64 KB              1, 1
//   logits 8         130, 130                 48 KB              2, 3
//         16         150, 150                 48 KB              2, 3
// No spills.
//
// Bytes at 8 rows of Qwen2.5-3B with R = 64, DRAM (unique) against the least, L4's splits:
//   q, k, v       2.70 MB + LoRA 0.33 + x, t, y 0.08; partial sums 0.20    1.06 (A100: 1.10)
//   o             2.16 MB + LoRA 0.26 + x, t, y 0.10; partial sums 0.13    1.05 (A100: 1.10)
//   gate, up     23.26 MB + LoRA 2.82 + x, t, y 0.21                       1.00 (A100: 1.05)
//   down         11.63 MB + LoRA 0.26 + x, t, y 0.24; partial sums 0.39    1.03 (A100: 1.03)
//   head        622.33 MB + x, y 4.89                                      1.00
// (Partial sums are written and read back within microseconds: L2 holds them.) What the SMs ask L2
// for is more: a block reads all of its x, m K 2 bytes for 32 K / 2 of weights, as much again at 8
// rows and NF4, a quarter of bf16 (an eighth of logits); a lane's pieces of x are half sectors, of
// which L1 has the second half; neighbouring lanes ask for the same scales. 2.3 to 2.5 times the
// weights in all, which is below the ratio of L2's bandwidth to DRAM's on both cards (4 and 3).
//
// Bank conflicts by the software GPU's count: none in tile loads and code look-ups. What it counts,
// 1 to 3 % of the accesses, are look-ups of the scales' 8-bit codes, 4 a step of 132.
//
// Tried: two codes a look-up (a table of 256 pairs, 2 KB): 3 instructions a weight, but 3.8
// replays; without conflicts it takes 16 copies, 32 KB that each block must fill. Outputs as
// columns (x as the 16-row operand): twice the products at 8 rows. 64 outputs a warp above 16 rows:
// spills at 64 rows; two groups of warps with 32 each do not, and the second finds x in L1.
// Addresses made anew each step: 790 instructions a step instead of 690.

#include "cuda/kernels/few_rows.h"

#include "cuda/kernels/common/silu.cuh"
#include "cuda/kernels/few_rows_tile.cuh"

namespace qgrpo::cuda::kernels {
namespace {

// The sum of a (row, column) of the block's tile: all splits, in order.
__device__ inline float tile_sum(const float* sums, const float* partial, int splits, int at,
                                 int partial_at, int partial_size) {
  if (splits == 1) return sums[at];
  float total = __ldcg(partial + partial_at);
#pragma unroll 4
  for (int s = 1; s < splits; ++s)
    total += __ldcg(partial + std::int64_t{s} * partial_size + partial_at);
  return total;
}

// What is added or multiplied here comes out of memory, as it was rounded: nothing for ptxas to fuse
// but in SwiGLU, whose arithmetic says what is.
template <typename S>
__device__ void store_tile(const FewRowsArgs& p, const FewRowsPart& part, int tile,
                           const float* sums, const float* partial) {
  const int size = part.rows * S::kOutputs;
  const auto sum = [&](int row, int column) {
    return tile_sum(sums, partial, part.splits, row * S::kStride + column,
                    row * S::kOutputs + column, size);
  };
  const bool pair = p.output == FewRowsOutput::swiglu;
  const int width = pair ? S::kOutputs / 2 : S::kOutputs;
  for (int e = static_cast<int>(threadIdx.x); e < part.rows * width; e += S::kThreads) {
    const int row = pair ? e / (S::kOutputs / 2) : e / S::kOutputs;  // shifts
    const int column = e & (width - 1);
    const int n = tile * width + column;
    if (n >= part.outputs) continue;
    const std::int64_t at = std::int64_t{row} * part.outputs + n;
    float value = sum(row, column);
    if (part.matrix[0].bias != nullptr) value += part.matrix[0].bias[n];
    if (p.output == FewRowsOutput::floats) {
      static_cast<float*>(part.y)[at] = value;
      continue;
    }
    auto* y = static_cast<bf16*>(part.y);
    if (p.output == FewRowsOutput::scaled) {
      value *= part.scale;
    } else if (pair) {
      float other = sum(row, column + width);
      if (part.matrix[1].bias != nullptr) other += part.matrix[1].bias[n];
      const bf16 gate = __float2bfloat16_rn(value);
      const bf16 up = __float2bfloat16_rn(other);
      if (part.gate != nullptr) part.gate[at] = gate;
      if (part.up != nullptr) part.up[at] = up;
      value = silu_product(__bfloat162float(gate), __bfloat162float(up));
    } else if (part.residual != nullptr) {
      value += __bfloat162float(part.residual[at]);
    }
    y[at] = __float2bfloat16_rn(value);
  }
}

template <bool nf4, int MT, int NT, int columns>
__global__ void __launch_bounds__(RowsShape<nf4, MT, NT, columns>::kThreads,
                                  RowsShape<nf4, MT, NT, columns>::kBlocks)
    few_rows_kernel(const __grid_constant__ FewRowsArgs p) {
  using S = RowsShape<nf4, MT, NT, columns>;
  extern __shared__ uint4 ring[];
  __shared__ Nf4Table table;

  int index = 0;
  while (index + 1 < p.parts && static_cast<int>(blockIdx.x) >= p.part[index + 1].first_block) {
    ++index;
  }
  const FewRowsPart& part = p.part[index];
  const RowsBlock<nf4, MT, NT, columns> b(p, part);
  RowsWeights<nf4, MT, NT, columns> weights(b, ring);

  // Pieces of 8 of x's rows g, g + 8, ...: the next step's.
  const bf16* x_at = p.x + (std::int64_t{part.row_begin} + b.g) * p.cols +
                     (4 * b.first_step + b.t) * (nf4 ? 32 : 8);
  int x_chunk = 4 * b.first_step + b.t;
  const auto load_x = [&](uint4(&x)[MT], int quarter, bool is_step) {
    const bool valid = is_step && x_chunk < b.chunks;
#pragma unroll
    for (int m = 0; m < MT; ++m) {
      x[m] = load_eight(x_at + std::int64_t{8} * m * p.cols, 8 * quarter,
                        valid && b.g + 8 * m < part.rows);
    }
    if (quarter + 1 == S::kQuarters) {
      x_at += 4 * kRowWarps * (nf4 ? 32 : 8);
      x_chunk += 4 * kRowWarps;
    }
  };

  unsigned char code[2 * NT];
  float nested[2 * NT];
  uint4 ahead[MT];
  if constexpr (nf4) {
    weights.ask_scales(code, nested, b.own_steps > 0);
    table.template fill<S::kThreads>(p.map);
  }
  if constexpr (S::kAhead) load_x(ahead, 0, b.own_steps > 0);
  if constexpr (nf4) __syncthreads();

  const unsigned lane_offset = 4 * static_cast<unsigned>(b.lane);
  float sum[NT][MT][4] = {};
  for (int i = 0; i < b.own_steps; ++i) {
    unsigned raw[2 * NT][4];
    weights.read(raw);
    float scale[2 * NT];
    if constexpr (nf4) {
#pragma unroll
      for (int r = 0; r < 2 * NT; ++r) {
        // Two roundings, as block_scale().
        scale[r] = __fadd_rn(__fmul_rn(table.map(code[r]), nested[r]),
                             part.matrix[b.matrix_of(r / 2)].offset);
      }
      weights.ask_scales(code, nested, i + 1 < b.own_steps);
    }
    weights.fetch();
#pragma unroll
    for (int q = 0; q < S::kQuarters; ++q) {
      uint4 x[MT];
      if constexpr (S::kAhead) {
#pragma unroll
        for (int m = 0; m < MT; ++m) x[m] = ahead[m];
        const bool wraps = q + 1 == S::kQuarters;
        load_x(ahead, wraps ? 0 : q + 1, !wraps || i + 1 < b.own_steps);
      } else {
        load_x(x, q, true);
      }
#pragma unroll
      for (int j = 0; j < NT; ++j) {
        unsigned upper[4], lower[4];  // output rows g and g + 8: k pairs 0 .. 3
        if constexpr (nf4) {
          dequantize_word(upper, table, raw[2 * j][q], scale[2 * j], lane_offset);
          dequantize_word(lower, table, raw[2 * j + 1][q], scale[2 * j + 1], lane_offset);
        } else {
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            upper[c] = raw[2 * j][c];
            lower[c] = raw[2 * j + 1][c];
          }
        }
        const unsigned first[4] = {upper[0], lower[0], upper[1], lower[1]};
        const unsigned second[4] = {upper[2], lower[2], upper[3], lower[3]};
#pragma unroll
        for (int m = 0; m < MT; ++m) mma_bf16(sum[j][m], first, x[m].x, x[m].y);
#pragma unroll
        for (int m = 0; m < MT; ++m) mma_bf16(sum[j][m], second, x[m].z, x[m].w);
      }
    }
  }

  for (int i = b.own_steps; i < b.all_steps; ++i) {
    unsigned raw[2 * NT][4];
    weights.read(raw);
    const RowsLowStep at = b.low_step(i);
    const FewRowsLow& low = p.low[at.index];
    const int k = 32 * at.step + 8 * b.t;
#pragma unroll
    for (int m = 0; m < MT; ++m) {
      const int x_at = b.g + 8 * m;
      const uint4 x = load_eight(low.t + std::int64_t{x_at - low.row_begin} * low.rank, k,
                                 x_at >= low.row_begin && x_at < low.row_end && k < low.rank);
#pragma unroll
      for (int j = 0; j < NT; ++j) {
        if (b.matrix_of(j) != low.matrix) continue;
        const unsigned(&upper)[4] = raw[2 * j];
        const unsigned(&lower)[4] = raw[2 * j + 1];
        const unsigned first[4] = {upper[0], lower[0], upper[1], lower[1]};
        const unsigned second[4] = {upper[2], lower[2], upper[3], lower[3]};
        float term[4] = {};
        mma_bf16(term, first, x.x, x.y);
        mma_bf16(term, second, x.z, x.w);
#pragma unroll
        for (int c = 0; c < 4; ++c) {  // the other rows' sums stay, whatever B holds
          const int of = 8 * m + 2 * b.t + c % 2;
          if (of >= low.row_begin && of < low.row_end) sum[j][m][c] += term[c];
        }
      }
    }
    weights.fetch();
  }

  // The warps' sums, added in their order where the ring was.
  wait_copies<0>();
  __syncthreads();
  auto* sums = reinterpret_cast<float*>(ring);
  for (int w = 0; w < kRowWarps; ++w) {
    if (b.warp == w) {
#pragma unroll
      for (int j = 0; j < NT; ++j) {
#pragma unroll
        for (int m = 0; m < MT; ++m) {
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            float& to = sums[(8 * m + 2 * b.t + c % 2) * S::kStride + 16 * b.tile_of(j) + b.g +
                             8 * (c / 2)];
            to = w == 0 ? sum[j][m][c] : to + sum[j][m][c];
          }
        }
      }
    }
    __syncthreads();
  }
  if (part.splits == 1) {
    store_tile<S>(p, part, b.tile, sums, nullptr);
    return;
  }

  // The last block of a tile to get here adds the splits' sums in their order.
  const int size = part.rows * S::kOutputs;
  float* partial = p.partial + part.first_partial + std::int64_t{b.tile} * part.splits * size;
  for (int e = static_cast<int>(threadIdx.x); e < size; e += S::kThreads) {
    __stcg(partial + std::int64_t{b.split} * size + e,
           sums[e / S::kOutputs * S::kStride + e % S::kOutputs]);
  }
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    std::uint32_t* counter = p.counters + part.first_tile + b.tile;
    const bool done = atomicAdd(counter, 1u) + 1 == static_cast<unsigned>(part.splits);
    if (done) *counter = 0;  // for the next launch
    sums[0] = done ? 1.0f : 0.0f;
  }
  __syncthreads();
  if (sums[0] == 0.0f) return;
  __threadfence();
  store_tile<S>(p, part, b.tile, sums, partial);
}

template <bool nf4, int MT, int NT, int columns>
cudaError_t launch(cudaStream_t stream, FewRowsArgs& args) {
  using S = RowsShape<nf4, MT, NT, columns>;
  constexpr int kBytes = S::kRing * static_cast<int>(sizeof(uint4));
  const int width = args.output == FewRowsOutput::swiglu ? S::kOutputs / 2 : S::kOutputs;
  constexpr int kStep = static_cast<int>(nf4 ? kNf4StepWeights : kDenseStepWeights);
  int blocks = 0, tiles = 0;
  std::int64_t partial = 0;
  for (int i = 0; i < args.parts; ++i) {
    FewRowsPart& part = args.part[i];
    const int own = (part.outputs + width - 1) / width;
    const int steps = (args.cols + kStep - 1) / kStep;
    part.split_steps = (steps + part.splits - 1) / part.splits;
    part.first_block = blocks;
    part.first_tile = tiles;
    part.first_partial = partial;
    blocks += own * part.splits;
    if (part.splits == 1) continue;
    tiles += own;
    partial += std::int64_t{own} * part.splits * part.rows * S::kOutputs;
  }
  if (blocks == 0) return cudaSuccess;
  const auto kernel = few_rows_kernel<nf4, MT, NT, columns>;
  if (kBytes > 40 * 1024) {  // beside the table: beyond what a block has without asking
    const cudaError_t code =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
    if (code != cudaSuccess) return code;
  }
  kernel<<<static_cast<unsigned>(blocks), S::kThreads, kBytes, stream>>>(args);
  return cudaGetLastError();
}

template <bool nf4>
cudaError_t launch_rows(cudaStream_t stream, FewRowsArgs& args) {
  int rows = 0;
  for (int i = 0; i < args.parts; ++i) rows = rows < args.part[i].rows ? args.part[i].rows : rows;
  if (rows == 0) return cudaSuccess;
  if constexpr (!nf4) {
    // A vocabulary's outputs fill the device in larger tiles too, and x is read half as often.
    if (args.output == FewRowsOutput::floats) {
      if (rows <= 8) return launch<nf4, 1, 4, 1>(stream, args);
      if (rows <= 16) return launch<nf4, 2, 4, 1>(stream, args);
    }
  }
  if (rows <= 8) return launch<nf4, 1, 2, 1>(stream, args);
  if (rows <= 16) return launch<nf4, 2, 2, 1>(stream, args);
  if (rows <= 32) return launch<nf4, 4, 2, 2>(stream, args);
  return launch<nf4, 8, 2, 2>(stream, args);
}

constexpr int kPadThreads = 256;

template <typename T>
__global__ void __launch_bounds__(kPadThreads)
    pad_factor_kernel(bf16* out, const T* factor, std::int64_t rank, std::int64_t padded,
                      std::int64_t count) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kPadThreads + threadIdx.x;
  if (i >= count) return;
  const std::int64_t r = i % padded;
  out[i] = r < rank ? static_cast<bf16>(factor[i / padded * rank + r]) : bf16(0.0f);
}

template <typename T>
cudaError_t launch_pad(cudaStream_t stream, bf16* out, const T* factor, std::int64_t rows,
                       std::int64_t rank, std::int64_t padded) {
  const std::int64_t count = rows * padded;
  if (count == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>((count + kPadThreads - 1) / kPadThreads);
  pad_factor_kernel<<<blocks, kPadThreads, 0, stream>>>(out, factor, rank, padded, count);
  return cudaGetLastError();
}

}  // namespace

cudaError_t few_rows(cudaStream_t stream, FewRowsArgs args, bool nf4) {
  return nf4 ? launch_rows<true>(stream, args) : launch_rows<false>(stream, args);
}

cudaError_t pad_factor(cudaStream_t stream, bf16* out, const float* factor, std::int64_t rows,
                       std::int64_t rank, std::int64_t padded) {
  return launch_pad(stream, out, factor, rows, rank, padded);
}
cudaError_t pad_factor(cudaStream_t stream, bf16* out, const bf16* factor, std::int64_t rows,
                       std::int64_t rank, std::int64_t padded) {
  return launch_pad(stream, out, factor, rows, rank, padded);
}

}  // namespace qgrpo::cuda::kernels
