#include "softgpu/cublaslt/matmul.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <thread>

namespace softgpu::cublaslt {
namespace {

// A tile of the product that stays in registers: kRows floats of kColumns columns.
constexpr std::size_t kRows = 16;
constexpr std::size_t kColumns = 6;

float half_to_float(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 31u;
  const std::uint32_t mantissa = bits & 1023u;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // subnormal or zero
  return sign != 0 ? -magnitude : magnitude;
}

std::uint16_t float_to_half(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fff;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00;  // rounds to 65536 or is infinite
  if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 leaves the mantissa in the low bits
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
  }
  const std::uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u;
  return static_cast<std::uint16_t>(sign | rounded >> 13);
}

std::uint16_t float_to_bf16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

template <typename T>
T read_as(const std::byte* base, std::size_t index) {
  T value;
  std::memcpy(&value, base + index * sizeof(T), sizeof(T));
  return value;
}

// packed[tile][p][lane] = element (tile * width + lane, p) of the matrix seen as (count, k); lanes
// beyond count are zero.
std::vector<float> pack(const Matrix& matrix, std::size_t count, std::size_t k, std::size_t width,
                        std::size_t major_step, std::size_t k_step) {
  const std::size_t tiles = (count + width - 1) / width;
  std::vector<float> packed(tiles * k * width, 0.0f);
  for (std::size_t tile = 0; tile < tiles; ++tile) {
    const std::size_t lanes = std::min(width, count - tile * width);
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      const std::size_t begin = (tile * width + lane) * major_step;
      float* out = packed.data() + tile * k * width + lane;
      for (std::size_t p = 0; p < k; ++p) {
        out[p * width] = load(matrix.data, matrix.element, begin + p * k_step);
      }
    }
  }
  return packed;
}

// Eight floats in a register. Two of them times kColumns leave room for the operands.
using Lanes = float __attribute__((vector_size(32)));

Lanes load_lanes(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

// tile[j][i] = sum over p of a[p][i] * b[p][j].
void multiply_tile(const float* a, const float* b, std::size_t k, float* tile) {
  static_assert(kRows == 16 && kColumns == 6);
  Lanes upper[kColumns] = {}, lower[kColumns] = {};
  for (std::size_t p = 0; p < k; ++p) {
    const Lanes first = load_lanes(a + p * kRows), second = load_lanes(a + p * kRows + 8);
#pragma GCC unroll 6
    for (std::size_t j = 0; j < kColumns; ++j) {
      upper[j] += first * b[p * kColumns + j];
      lower[j] += second * b[p * kColumns + j];
    }
  }
  for (std::size_t j = 0; j < kColumns; ++j) {
    std::memcpy(tile + j * kRows, &upper[j], sizeof upper[j]);
    std::memcpy(tile + j * kRows + 8, &lower[j], sizeof lower[j]);
  }
}

void run_parallel(std::size_t count, unsigned threads,
                  const std::function<void(std::size_t)>& body) {
  const std::size_t workers = std::min<std::size_t>(std::max(threads, 1u), count);
  std::vector<std::thread> pool;
  for (std::size_t worker = 1; worker < workers; ++worker) {
    pool.emplace_back([&, worker] {
      for (std::size_t i = worker; i < count; i += workers) body(i);
    });
  }
  for (std::size_t i = 0; i < count; i += std::max<std::size_t>(workers, 1)) body(i);
  for (std::thread& thread : pool) thread.join();
}

}  // namespace

std::size_t size_of(Element element) {
  return element == Element::kF32 ? 4 : 2;
}

float load(const std::byte* base, Element element, std::size_t index) {
  switch (element) {
    case Element::kF32:
      return read_as<float>(base, index);
    case Element::kF16:
      return half_to_float(read_as<std::uint16_t>(base, index));
    case Element::kBf16:
      return std::bit_cast<float>(std::uint32_t{read_as<std::uint16_t>(base, index)} << 16);
  }
  return 0;
}

void store(std::byte* base, Element element, std::size_t index, float value) {
  if (element == Element::kF32) {
    std::memcpy(base + index * 4, &value, 4);
    return;
  }
  const std::uint16_t bits = element == Element::kF16 ? float_to_half(value) : float_to_bf16(value);
  std::memcpy(base + index * 2, &bits, 2);
}

std::vector<float> multiply(const Matrix& a, const Matrix& b, std::size_t m, std::size_t n,
                            std::size_t k, unsigned threads) {
  const std::vector<float> left = pack(a, m, k, kRows, a.row_step, a.column_step);
  const std::vector<float> right = pack(b, n, k, kColumns, b.column_step, b.row_step);
  std::vector<float> product(m * n);
  const std::size_t row_tiles = (m + kRows - 1) / kRows;
  const std::size_t column_tiles = (n + kColumns - 1) / kColumns;
  // One task multiplies a row tile, whose k floats a lane stay in cache, with all columns.
  run_parallel(row_tiles, m * n * k < 65536 ? 1 : threads, [&](std::size_t row_tile) {
    float tile[kColumns * kRows];
    const std::size_t row = row_tile * kRows, rows = std::min(kRows, m - row);
    for (std::size_t column_tile = 0; column_tile < column_tiles; ++column_tile) {
      multiply_tile(left.data() + row_tile * k * kRows, right.data() + column_tile * k * kColumns,
                    k, tile);
      const std::size_t column = column_tile * kColumns;
      for (std::size_t j = 0; j < std::min(kColumns, n - column); ++j) {
        std::memcpy(product.data() + (column + j) * m + row, tile + j * kRows,
                    rows * sizeof(float));
      }
    }
  });
  return product;
}

}  // namespace softgpu::cublaslt
