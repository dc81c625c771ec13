#pragma once

#include "cuda/kernels/common/mma.cuh"
#include "cuda/kernels/few_rows_types.h"
#include "cuda/kernels/nf4.cuh"
#include "cuda/sizes/linear.h"

// The parts of few_rows.cu: a block's place in the launch, and the weights' way through a ring of
// shared memory.
namespace qgrpo::cuda::kernels {

inline constexpr int kRowWarps = static_cast<int>(kFewRowsWarps);

// For data that is read once: the first to leave L2.
__device__ inline std::uint64_t read_once_policy() {
  std::uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;\n" : "=l"(policy));
  return policy;
}
__device__ inline void copy_async_once(void* to, const void* from, bool valid,
                                       std::uint64_t policy) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;\n" ::"r"(
                   shared_address(to)),
               "l"(from), "r"(bytes), "l"(policy)
               : "memory");
}

__device__ inline void load_words(unsigned (&words)[4], const uint4* from) {
  const uint4 v = *from;
  words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
}

// x[at .. at + 8), zeros where they are not there.
__device__ inline uint4 load_eight(const bf16* x, std::int64_t at, bool there) {
  return there ? *reinterpret_cast<const uint4*>(x + at) : make_uint4(0, 0, 0, 0);
}

// MT tiles of 8 rows; `columns` groups of four warps, each with its own NT tiles of 16 outputs.
template <bool nf4, int MT, int NT, int columns>
struct RowsShape {
  static constexpr int kThreads = columns * kRowWarps * kWarp;
  static constexpr int kTiles = columns * NT;
  static constexpr int kOutputs = 16 * kTiles;           // of a block
  static constexpr int kStages = nf4 || NT > 2 ? 3 : 4;  // of the ring
  static constexpr int kStride = kOutputs + 4;           // of a row of sums in shared memory
  static constexpr int kRing = kStages * NT * 2 * kThreads;
  static constexpr int kQuarters = nf4 ? 4 : 1;  // 16-byte pieces of x a row and step
  static constexpr bool kAhead = MT < 8;         // x is loaded one quarter ahead
  // Blocks that an SM shall hold, which bounds the registers.
  static constexpr int kBlocks = MT > 2 ? 1 : NT > 2 ? 3 : 4;
  static_assert(8 * MT * kStride * 4 <= kRing * 16, "the sums take the ring's place");
};

// A step of a low-rank term: 32 ranks of FewRowsArgs::low[index].
struct RowsLowStep {
  int index;
  int step;
};

template <bool nf4, int MT, int NT, int columns>
struct RowsBlock {
  using S = RowsShape<nf4, MT, NT, columns>;
  const FewRowsArgs& p;
  const FewRowsPart& part;
  int tile, split, column, warp, lane, g, t;
  int chunks;      // 16-byte pieces of a row of W
  int first_step;  // of this warp, then every fourth
  int own_steps;   // of K
  int all_steps;   // and of the low-rank terms

  __device__ RowsBlock(const FewRowsArgs& args, const FewRowsPart& of) : p(args), part(of) {
    const int local = static_cast<int>(blockIdx.x) - part.first_block;
    tile = local / part.splits;
    split = local % part.splits;
    column = static_cast<int>(threadIdx.x) / (kRowWarps * kWarp);
    warp = static_cast<int>(threadIdx.x) / kWarp % kRowWarps;
    lane = threadIdx.x % kWarp;
    g = lane / 4;
    t = lane % 4;
    chunks = p.cols / (nf4 ? 32 : 8);
    const int begin = split * part.split_steps;
    const int end = min(begin + part.split_steps, (chunks + 3) / 4);
    first_step = begin + warp;
    own_steps = max(0, (end - first_step + kRowWarps - 1) / kRowWarps);
    all_steps = own_steps;
    if (split + 1 < part.splits) return;
    for (int i = part.low_begin; i < part.low_end; ++i) all_steps += low_steps(p.low[i]);
  }

  // Of the block, tile j of the warp.
  __device__ int tile_of(int j) const { return column * NT + j; }
  __device__ bool pair() const { return p.output == FewRowsOutput::swiglu; }
  // Of a block's outputs, those of the matrix that tile j of 16 belongs to; and its first.
  __device__ int matrix_of(int j) const { return pair() ? tile_of(j) / (S::kTiles / 2) : 0; }
  __device__ int width() const { return pair() ? S::kOutputs / 2 : S::kOutputs; }
  __device__ int output_of(int j, int h) const {
    const int within = pair() ? tile_of(j) % (S::kTiles / 2) : tile_of(j);
    return tile * width() + 16 * within + g + 8 * h;
  }

  // A term's steps run over the warps from the first on, whatever other terms there are.
  __device__ int low_steps(const FewRowsLow& low) const {
    return max(0, ((low.rank + 31) / 32 - warp + kRowWarps - 1) / kRowWarps);
  }
  __device__ RowsLowStep low_step(int i) const {
    int index = part.low_begin;
    for (int left = i - own_steps;; ++index) {
      const int steps = low_steps(p.low[index]);
      if (left < steps) return {index, warp + kRowWarps * left};
      left -= steps;
    }
  }
};

// The weights' way into registers, through a ring of shared memory of which a lane writes and reads
// its own 16 bytes alone.
template <bool nf4, int MT, int NT, int columns>
struct RowsWeights {
  using S = RowsShape<nf4, MT, NT, columns>;
  const RowsBlock<nf4, MT, NT, columns>& b;
  uint4* own;          // the lane's place in the first stage of its warp
  unsigned there = 0;  // rows that the matrix has
  std::uint64_t policy;
  const uint4* from[2 * NT];  // the next step's
  unsigned scale_at[2 * NT];  // likewise, in pieces of 32 weights from the matrix's beginning
  int chunk;                  // of a row: the next step's
  int scale_chunk;
  int next = 0;  // step to fetch
  int to = 0;    // stage that it goes to
  int at = 0;    // stage to read

  __device__ RowsWeights(const RowsBlock<nf4, MT, NT, columns>& block, uint4* ring)
      : b(block), own(ring + threadIdx.x / kWarp * S::kStages * 2 * NT * kWarp + block.lane) {
    policy = read_once_policy();
    chunk = scale_chunk = 4 * b.first_step + b.t;
#pragma unroll
    for (int r = 0; r < 2 * NT; ++r) {
      const int n = b.output_of(r / 2, r % 2);
      const FewRowsMatrix& matrix = b.part.matrix[b.matrix_of(r / 2)];
      if (n < matrix.rows) there |= 1u << r;
      scale_at[r] =
          static_cast<unsigned>(n) * static_cast<unsigned>(b.chunks) + static_cast<unsigned>(chunk);
      from[r] = matrix.data + scale_at[r];
    }
#pragma unroll
    for (int i = 0; i < S::kStages - 1; ++i) fetch();
  }

  // Starts the copy of the next step, of K or then of the low-rank terms.
  __device__ void fetch() {
    uint4* stage = own + to * 2 * NT * kWarp;
    to = to + 1 == S::kStages ? 0 : to + 1;
    if (next < b.own_steps) {
      const unsigned valid = chunk < b.chunks ? there : 0u;
#pragma unroll
      for (int r = 0; r < 2 * NT; ++r) {
        copy_async_once(stage + r * kWarp, from[r], (valid >> r & 1) != 0, policy);
        from[r] += 4 * kRowWarps;
      }
      chunk += 4 * kRowWarps;
    } else if (next < b.all_steps) {
      const RowsLowStep of = b.low_step(next);
      const FewRowsLow& low = b.p.low[of.index];
      const int piece = 4 * of.step + b.t;
      const auto* first = reinterpret_cast<const uint4*>(low.b);
#pragma unroll
      for (int r = 0; r < 2 * NT; ++r) {
        const bool valid =
            piece < low.rank / 8 && (there >> r & 1) != 0 && b.matrix_of(r / 2) == low.matrix;
        const std::int64_t n = b.output_of(r / 2, r % 2);
        copy_async_once(stage + r * kWarp, first + n * (low.rank / 8) + piece, valid, policy);
      }
    }
    ++next;
    commit_copies();
  }
  // Waits for the oldest step that was not read, and reads it.
  __device__ void read(unsigned (&words)[2 * NT][4]) {
    wait_copies<S::kStages - 2>();
    const uint4* stage = own + at * 2 * NT * kWarp;
    at = at + 1 == S::kStages ? 0 : at + 1;
#pragma unroll
    for (int r = 0; r < 2 * NT; ++r) load_words(words[r], stage + r * kWarp);
  }

  // Asks for the next step's codes of absmax and second-level maxima.
  __device__ void ask_scales(unsigned char (&code)[2 * NT], float (&nested)[2 * NT], bool is_step) {
    const unsigned valid = is_step && scale_chunk < b.chunks ? there : 0u;
#pragma unroll
    for (int r = 0; r < 2 * NT; ++r) {
      const FewRowsMatrix& matrix = b.part.matrix[b.matrix_of(r / 2)];
      code[r] = 0;
      nested[r] = 0.0f;
      if ((valid >> r & 1) != 0) {
        nested[r] = matrix.nested[scale_at[r] / 512];
        code[r] = matrix.absmax[scale_at[r] / 2];
      }
      scale_at[r] += 4 * kRowWarps;
    }
    scale_chunk += 4 * kRowWarps;
  }
};

}  // namespace qgrpo::cuda::kernels
