#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#include "cpu/dispatch.h"
#include "cpu/gemm.h"
#include "cpu/threads.h"
#include "model/ops/rng.h"
#include "model/ops/tensor.h"

// Shared by the tests of the products, the weights, the linear layer and the head.

namespace qgrpo::test {

inline std::vector<float> random_floats(std::int64_t count, std::uint32_t key) {
  Rng rng(7, RngStream::test, key);
  std::vector<float> out(static_cast<std::size_t>(count));
  for (float& v : out) v = rng.normal();
  return out;
}

inline std::vector<cpu::Isa> supported_isas() {
  std::vector<cpu::Isa> out;
  for (const cpu::Isa isa : {cpu::Isa::avx2, cpu::Isa::avx512}) {
    if (cpu::isa_supported(isa)) out.push_back(isa);
  }
  return out;
}

// Runs the body with every instruction set of this machine and 1, 2 and 3 threads.
inline void for_each_context(const std::function<void(cpu::GemmContext&)>& body) {
  for (const cpu::Isa isa : supported_isas()) {
    for (const int threads : {1, 2, 3}) {
      CAPTURE(cpu::isa_name(isa));
      CAPTURE(threads);
      cpu::ThreadPool pool(threads);
      cpu::GemmContext context(pool, isa);
      body(context);
    }
  }
}

// An output between two guards, whose change is an overrun. Begins as `fill` everywhere.
class GuardedOutput {
 public:
  explicit GuardedOutput(std::int64_t count, float fill = std::numeric_limits<float>::quiet_NaN())
      : values_(static_cast<std::size_t>(count) + 2 * kGuard, fill) {
    for (std::size_t i = 0; i < kGuard; ++i) {
      values_[i] = kSentinel;
      values_[values_.size() - 1 - i] = kSentinel;
    }
  }
  explicit GuardedOutput(const std::vector<float>& start)
      : GuardedOutput(static_cast<std::int64_t>(start.size())) {
    std::copy(start.begin(), start.end(), values_.begin() + kGuard);
  }
  float* data() { return values_.data() + kGuard; }
  std::vector<float> values() const {
    return {values_.begin() + kGuard, values_.end() - static_cast<std::ptrdiff_t>(kGuard)};
  }
  TensorView view(std::int64_t rows, std::int64_t cols) {
    return {data(), DType::f32, {rows, cols}};
  }
  bool intact() const {
    for (std::size_t i = 0; i < kGuard; ++i) {
      if (values_[i] != kSentinel || values_[values_.size() - 1 - i] != kSentinel) return false;
    }
    return true;
  }

 private:
  static constexpr std::size_t kGuard = 64;
  static constexpr float kSentinel = -12345.0f;
  std::vector<float> values_;
};

inline ConstTensorView matrix(const std::vector<float>& values, std::int64_t rows,
                              std::int64_t cols) {
  return {values.data(), DType::f32, {rows, cols}};
}

inline bool equal_bits(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return false;
  return a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// sum over k of a(k) b(k) as the specification defines it: one chain of fused multiply-adds.
template <typename A, typename B>
float chain(std::int64_t depth, A a, B b, float start = 0.0f) {
  float sum = start;
  for (std::int64_t k = 0; k < depth; ++k) sum = std::fma(a(k), b(k), sum);
  return sum;
}

// The largest difference between float values and a double reference, in units of their bound.
// A chain of d multiply-adds of terms of which the absolute values sum to s is within d * 2^-24 * s
// (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1).
inline double chain_bound(double depth, double absolute_sum) {
  return (depth + 4.0) * 0x1p-24 * absolute_sum + 1e-37;
}

}  // namespace qgrpo::test
