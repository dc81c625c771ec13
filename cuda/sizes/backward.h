#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

// Bytes of scratch of training's operators, by slot (cuda/sizes/slots.h). Host-only: the memory plan asks
// the same functions as the operators.
namespace qgrpo::cuda {

// linear_backward over up to `tokens` rows of matrices of up to n x k elements, adapters of up to
// `rank`. It also takes the slot `weight`, as the forward does.
struct LinearBackwardSizes {
  std::int64_t tokens = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t rank = 0;

  // LoRA's factors as bf16, for adapters that have no shadows.
  std::size_t low_a() const { return bytes(rank, k, 2); }
  std::size_t low_b() const { return bytes(n, rank, 2); }
  std::size_t low_sums() const { return bytes(tokens, rank, 4); }  // dy B, x A^T in float32
  std::size_t low() const { return bytes(tokens, rank, 2); }       // bf16(scale dy B)
  std::size_t low_x() const { return bytes(tokens, rank, 2); }     // bf16(scale x A^T)

 private:
  static std::size_t bytes(std::int64_t rows, std::int64_t cols, std::int64_t size) {
    return static_cast<std::size_t>(rows * cols * size);
  }
};

// Rows that a partial sum over tokens covers (dbias, RMSNorm's dweight).
inline constexpr std::int64_t kPartialRows = 64;
// Slot `partials`: a float32 a column for each 64 rows; `width` the widest of the trained vectors.
inline std::size_t partial_sums_bytes(std::int64_t tokens, std::int64_t width) {
  return static_cast<std::size_t>((tokens + kPartialRows - 1) / kPartialRows * width * 4);
}

// Slots of scatter_add_rows and embedding_backward, each: an index a row, and one more.
inline std::size_t scatter_bytes(std::int64_t rows) {
  return static_cast<std::size_t>((rows + 1) * 4);
}

// Elements that a partial sum of squares covers.
inline constexpr std::int64_t kSquarePartial = 4096;
inline std::int64_t square_partials(std::int64_t elements) {
  return (elements + kSquarePartial - 1) / kSquarePartial;
}
// Slot `squares`: a double for each partial sum and each tensor. Of tensors with `elements` in
// total there are at most this many partial sums.
inline std::size_t squares_bytes(std::int64_t partials, std::int64_t tensors) {
  return static_cast<std::size_t>((partials + tensors) * 8);
}
inline std::size_t most_squares_bytes(std::int64_t elements, std::int64_t tensors) {
  return squares_bytes(square_partials(elements) + tensors, tensors);
}
// Slot `squares_table`: address, size and first partial sum of a tensor.
inline std::size_t squares_table_bytes(std::int64_t tensors) {
  return static_cast<std::size_t>(tensors * 24);
}

}  // namespace qgrpo::cuda
