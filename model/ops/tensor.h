#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "model/ops/error.h"

namespace qgrpo {

enum class DType : std::uint8_t { f32, bf16, f16, u8, i32, i64 };

constexpr std::size_t dtype_size(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::u8:
      return 1;
    case DType::i64:
      return 8;
  }
  return 0;
}

constexpr std::string_view dtype_name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::bf16:
      return "bf16";
    case DType::f16:
      return "f16";
    case DType::u8:
      return "u8";
    case DType::i32:
      return "i32";
    case DType::i64:
      return "i64";
  }
  return "?";
}

// Up to four dimensions, outermost first.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims) {
    for (const auto d : dims) push_back(d);
  }
  void push_back(std::int64_t dim) {
    require(rank_ < 4, "a tensor has at most 4 dimensions");
    dims_[static_cast<std::size_t>(rank_++)] = dim;
  }
  int rank() const { return rank_; }
  std::int64_t operator[](int i) const { return dims_[static_cast<std::size_t>(i)]; }
  std::int64_t elements() const {
    std::int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[static_cast<std::size_t>(i)];
    return n;
  }
  bool operator==(const Shape&) const = default;
  std::string str() const {  // "[3, 64]"
    std::string out = "[";
    for (int i = 0; i < rank_; ++i) out += fmt::format("{}{}", i ? ", " : "", (*this)[i]);
    return out + "]";
  }

 private:
  std::array<std::int64_t, 4> dims_{};
  int rank_ = 0;
};

// A dense row-major tensor in a backend's memory. Does not own it.
struct ConstTensorView {
  const void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;

  explicit operator bool() const { return data != nullptr; }
  std::int64_t elements() const { return data == nullptr ? 0 : shape.elements(); }
  std::size_t bytes() const { return static_cast<std::size_t>(elements()) * dtype_size(dtype); }
  const float* f32() const { return static_cast<const float*>(data); }
  const std::uint16_t* u16() const { return static_cast<const std::uint16_t*>(data); }
};

struct TensorView {
  void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;

  explicit operator bool() const { return data != nullptr; }
  // NOLINTNEXTLINE(google-explicit-constructor): what may be written may be read.
  operator ConstTensorView() const { return {data, dtype, shape}; }
  std::int64_t elements() const { return data == nullptr ? 0 : shape.elements(); }
  std::size_t bytes() const { return static_cast<std::size_t>(elements()) * dtype_size(dtype); }
  float* f32() const { return static_cast<float*>(data); }
  // Rows [begin, begin + count) of the outermost dimension.
  TensorView rows(std::int64_t begin, std::int64_t count) const {
    TensorView view = *this;
    std::int64_t row = 1;  // elements; a tensor may have no rows
    for (int i = 1; i < shape.rank(); ++i) row *= shape[i];
    view.data =
        static_cast<std::byte*>(data) + static_cast<std::size_t>(begin * row) * dtype_size(dtype);
    Shape dims{count};
    for (int i = 1; i < shape.rank(); ++i) dims.push_back(shape[i]);
    view.shape = dims;
    return view;
  }
};

// bfloat16 <-> float32. To bf16: round to nearest, ties to even; NaN stays NaN.
constexpr float bf16_to_f32(std::uint16_t bits) {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16);
}
constexpr std::uint16_t f32_to_bf16(float value) {
  const auto u = __builtin_bit_cast(std::uint32_t, value);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((u >> 16) | 0x40u);
  return static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

// IEEE half -> float32, exact (subnormals, infinities and NaN included).
constexpr float f16_to_f32(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u) {
    return __builtin_bit_cast(float, sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  }
  if (magnitude < 0x0400u) {  // zero or subnormal: magnitude * 2^-24
    const float value = static_cast<float>(magnitude) * 0x1p-24f;
    return sign ? -value : value;
  }
  return __builtin_bit_cast(float, sign | ((magnitude << 13) + (112u << 23)));
}

}  // namespace qgrpo
