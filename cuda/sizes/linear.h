#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

// What the linears take of scratch, and how the products of few rows are cut: host code alone.
namespace qgrpo::cuda {

// ---- products of few rows (cuda/kernels/few_rows.h)

inline constexpr std::int64_t kFewRows = 64;      // rows of one launch; more take several
inline constexpr std::int64_t kFewRowsRuns = 4;   // runs with an adapter of one launch, likewise
inline constexpr std::int64_t kFewRowsGroup = 3;  // matrices of one launch: q, k, v
inline constexpr std::int64_t kFewRowsTile = 32;  // outputs of a block (64 above 16 rows)
inline constexpr std::int64_t kFewRowsWarps = 4;  // of a block, which share its part of K
inline constexpr std::int64_t kNf4StepWeights = 128;  // of K in one step of a warp
inline constexpr std::int64_t kDenseStepWeights = 32;
inline constexpr std::int64_t kMaxSplits = 32;
inline constexpr std::int64_t kMaxSplitTiles = 1024;  // of a matrix whose K is split

constexpr std::int64_t few_rows_tiles(std::int64_t n) {
  return (n + kFewRowsTile - 1) / kFewRowsTile;
}
// Whether an NF4 matrix is read as it is: its rows are whole pieces of 16 bytes. Others are
// dequantized first.
constexpr bool few_rows_nf4(std::int64_t k, bool nf4) {
  return nf4 && k % 32 == 0;
}
constexpr std::int64_t few_rows_steps(std::int64_t k, bool nf4) {
  const std::int64_t step = few_rows_nf4(k, nf4) ? kNf4StepWeights : kDenseStepWeights;
  return (k + step - 1) / step;
}

// Into how many parts K of an (N, K) matrix is split: as many as give two blocks a multiprocessor,
// and of those the number with the least work (steps of a warp) on the busiest one. Known from the
// matrix and the device alone, so that an output's order of summation is, too.
constexpr std::int64_t few_rows_splits(std::int64_t n, std::int64_t k, bool nf4,
                                       std::int64_t processors) {
  const std::int64_t tiles = few_rows_tiles(n);
  const std::int64_t steps = few_rows_steps(k, nf4);
  if (tiles == 0 || tiles > kMaxSplitTiles) return 1;
  const auto most =
      std::clamp<std::int64_t>((steps + kFewRowsWarps - 1) / kFewRowsWarps, 1, kMaxSplits);
  const std::int64_t fewest = std::min(most, (2 * processors + tiles - 1) / tiles);
  std::int64_t best = fewest, least = -1;
  for (std::int64_t splits = fewest; splits <= most; ++splits) {
    const std::int64_t blocks = (tiles * splits + processors - 1) / processors;
    const std::int64_t own = (steps + kFewRowsWarps * splits - 1) / (kFewRowsWarps * splits);
    // In eighths of a step: half a step for a block's beginning and end, an eighth for each partial
    // sum that the last block of a tile reads.
    const std::int64_t work = blocks * (8 * own + 4) + splits;
    if (least < 0 || work < least) best = splits, least = work;
  }
  return best;
}

// Slot split_counters: one a tile of each part of a launch, zeroed once, left zeroed by the
// kernels.
inline constexpr std::int64_t kSplitCounters = kMaxSplitTiles * kFewRowsGroup * kFewRowsRuns;
constexpr std::size_t split_counters_bytes() {
  return static_cast<std::size_t>(kSplitCounters) * sizeof(std::uint32_t);
}

// Slot split_sums: float32 partial sums of one (N, K) matrix for up to `rows` rows. A launch takes
// the sum over its matrices.
constexpr std::int64_t split_sums_elements(std::int64_t n, std::int64_t k, bool nf4,
                                           std::int64_t rows, std::int64_t processors) {
  const std::int64_t splits = few_rows_splits(n, k, nf4, processors);
  if (splits == 1) return 0;
  // A block of more than 16 rows has twice the outputs, so the last tile may be half empty.
  return splits * (few_rows_tiles(n) + 1) * kFewRowsTile * std::min(rows, kFewRows);
}

// LoRA ranks lie padded to this: 16 bytes of bf16.
constexpr std::int64_t padded_rank(std::int64_t rank) {
  return (rank + 7) / 8 * 8;
}
// Slot split_sums, of the launch that makes t.
constexpr std::int64_t few_rows_low_sums_elements(std::int64_t rank, std::int64_t k,
                                                  std::int64_t rows, std::int64_t processors) {
  return kFewRowsGroup * split_sums_elements(padded_rank(rank), k, false, rows, processors);
}
// Slot low: t of every row and matrix of a launch.
constexpr std::int64_t few_rows_low_elements(std::int64_t rank, std::int64_t rows) {
  return kFewRowsGroup * std::min(rows, kFewRows) * padded_rank(rank);
}
// Slots low_a and low_b: the factors of a launch as bf16, for adapters without shadows (or of a
// rank that is no multiple of 8); (R, K) and (N, R).
constexpr std::int64_t few_rows_factor_elements(std::int64_t size, std::int64_t rank) {
  return kFewRowsGroup * kFewRowsRuns * size * padded_rank(rank);
}

// ---- many rows: dequantized, then cuBLASLt

// Rows whose float32 sums are kept at once: 90 MB at N = 11008.
inline constexpr std::int64_t kSumRows = 2048;

// Slot weight: the dequantized (N, K) matrix, bf16.
constexpr std::int64_t dense_weight_elements(std::int64_t n, std::int64_t k) {
  return n * k;
}
// Slot sums, float32, of a product with a bias or an adapter.
constexpr std::int64_t linear_sums_elements(std::int64_t rows, std::int64_t n) {
  return std::min(rows, kSumRows) * n;
}
// Slots low_sums (float32) and low (bf16).
constexpr std::int64_t linear_low_elements(std::int64_t rows, std::int64_t rank) {
  return std::min(rows, kSumRows) * rank;
}

// ---- quantization by the device (CudaWeight::prepare)

// Elements of the host's matrix that are uploaded at once, a multiple of 64: slot weight, up to 4
// bytes each.
inline constexpr std::int64_t kQuantizeChunk = std::int64_t{1} << 22;
constexpr std::size_t quantize_chunk_bytes(std::int64_t elements, std::size_t element_bytes) {
  return static_cast<std::size_t>(std::min(elements, kQuantizeChunk)) * element_bytes;
}
// Slot sums: the blocks' maxima, float32, and the index of the first value that is not finite.
constexpr std::int64_t quantize_absmax_elements(std::int64_t elements) {
  return (elements + 63) / 64 + 2;
}

}  // namespace qgrpo::cuda
