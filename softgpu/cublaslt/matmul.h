#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace softgpu::cublaslt {

enum class Element : std::uint8_t { kF32, kF16, kBf16 };
std::size_t size_of(Element element);

// One element as a float (exact), and a float as an element (nearest, ties to even).
float load(const std::byte* base, Element element, std::size_t index);
void store(std::byte* base, Element element, std::size_t index, float value);

// How a matrix lies in memory: element (r, c) at r * row_step + c * column_step.
struct Matrix {
  const std::byte* data = nullptr;
  Element element = Element::kF32;
  std::size_t row_step = 1, column_step = 1;
};

// product (m, n) f32, rows contiguous down a column: product[i + j * m] = sum over p of
// a(i, p) * b(p, j), each sum a chain of fused multiply-adds in order of p. Spread over `threads`.
std::vector<float> multiply(const Matrix& a, const Matrix& b, std::size_t m, std::size_t n,
                            std::size_t k, unsigned threads);

}  // namespace softgpu::cublaslt
