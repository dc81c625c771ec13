#pragma once

#include <cstddef>
#include <cstdint>

namespace qgrpo {

// f32: the backend's most precise matrix operands (float32 on the CPU, rounded to bf16 on a GPU,
// whose master copies are kept elsewhere).
enum class WeightFormat : std::uint8_t { f32, bf16, nf4 };

// A matrix (N, K) as its backend keeps it: opaque, repacked at will, owned by whoever holds it.
class Weight {
 public:
  virtual ~Weight() = default;
  WeightFormat format() const { return format_; }
  std::int64_t rows() const { return rows_; }  // N
  std::int64_t cols() const { return cols_; }  // K
  std::size_t bytes() const { return bytes_; }

 protected:
  Weight(WeightFormat format, std::int64_t rows, std::int64_t cols)
      : format_(format), rows_(rows), cols_(cols) {}
  WeightFormat format_;
  std::int64_t rows_;
  std::int64_t cols_;
  std::size_t bytes_ = 0;
};

}  // namespace qgrpo
