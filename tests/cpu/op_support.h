#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "cpu/dispatch.h"
#include "cpu/layer_context.h"
#include "model/ops/cases/cases.h"
#include "model/ops/ops.h"
#include "model/ops/rng.h"
#include "support/on_backend.h"

// What the tests of the operators share, beside the table of cases (model/ops/cases): random data,
// outputs with sentinels, the machine's instruction sets.

namespace qgrpo::test {

// Normal numbers times `scale`.
template <typename Real = float>
std::vector<Real> random_values(std::size_t n, std::uint32_t seed, double scale = 1.0) {
  Rng rng(seed, RngStream::test);
  std::vector<Real> out(n);
  for (Real& x : out) x = static_cast<Real>(scale * static_cast<double>(rng.normal()));
  return out;
}

// An output whose surroundings must stay as they were, and that starts as NaN (for "=") or as given
// (for "+=").
class Guarded {
 public:
  explicit Guarded(std::size_t n, float start = NAN) : data_(n + 2 * kGuard, kSentinel), n_(n) {
    std::fill_n(data_.begin() + kGuard, n, start);
  }
  explicit Guarded(const std::vector<float>& start) : Guarded(start.size()) {
    std::copy(start.begin(), start.end(), data_.begin() + kGuard);
  }
  float* data() { return data_.data() + kGuard; }
  std::vector<float> values() const { return {data_.begin() + kGuard, data_.end() - kGuard}; }
  TensorView view(Shape shape) { return {data(), DType::f32, shape}; }
  bool intact() const {
    for (std::size_t i = 0; i < kGuard; ++i) {
      if (data_[i] != kSentinel || data_[n_ + kGuard + i] != kSentinel) return false;
    }
    return true;
  }

 private:
  static constexpr std::size_t kGuard = 32;
  static constexpr float kSentinel = 12345.678f;
  std::vector<float> data_;
  std::size_t n_;
};

inline ConstTensorView view(const std::vector<float>& data, Shape shape) {
  return {data.data(), DType::f32, shape};
}

// The largest |a - b| / (1 + |b|); NaN counts as infinite.
template <typename A, typename B>
double difference(const std::vector<A>& a, const std::vector<B>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])) /
                     (1 + std::abs(static_cast<double>(b[i])));
    if (!(d <= worst)) worst = std::isnan(d) ? INFINITY : d;
  }
  return worst;
}

// A context of its own for each instruction set that this machine runs, with 1, 2 and 3 threads.
struct TestContext {
  TestContext(int threads, cpu::Isa isa)
      : name(std::string(cpu::isa_name(isa)) + ", " + std::to_string(threads) + " threads"),
        pool(threads),
        context(pool, isa) {}
  std::string name;
  cpu::ThreadPool pool;
  cpu::LayerContext context;
};
inline std::vector<std::unique_ptr<TestContext>> all_contexts() {
  std::vector<std::unique_ptr<TestContext>> out;
  for (const cpu::Isa isa : {cpu::Isa::avx2, cpu::Isa::avx512}) {
    for (int threads = 1; cpu::isa_supported(isa) && threads <= 3; ++threads) {
      out.push_back(std::make_unique<TestContext>(threads, isa));
    }
  }
  return out;
}

template <typename T>
std::vector<double> to_double(const std::vector<T>& x) {
  return {x.begin(), x.end()};
}

// Runs `op(context)` -> outputs in every context: the same bits everywhere; returns them.
template <typename Op>
std::vector<std::vector<float>> same_everywhere(Op&& op) {
  const auto contexts = all_contexts();
  const std::vector<std::vector<float>> first = op(contexts[0]->context);
  for (const auto& other : contexts) {
    CAPTURE(other->name);
    const std::vector<std::vector<float>> again = op(other->context);
    for (std::size_t i = 0; i < first.size(); ++i) CHECK(same_bits(again[i], first[i]));
  }
  return first;
}

template <typename... G>
std::vector<std::vector<float>> outputs(const G&... guarded) {
  CHECK((guarded.intact() && ...));
  return {guarded.values()...};
}

}  // namespace qgrpo::test
