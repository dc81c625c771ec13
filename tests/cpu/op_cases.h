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
#include "model/ops/batch.h"
#include "model/ops/ops.h"
#include "model/ops/rng.h"

// The one table of shapes that the layer's operators run on, fast against reference, and what the
// tests share: random data, outputs with sentinels, the machine's instruction sets.

namespace qgrpo::test {

// Segments by their lengths and parents, and the heads: odd, tiny, and like the models'.
struct AttentionCase {
  std::string name;
  AttentionShape shape;
  std::vector<std::pair<int, int>> segments;  // (length, parent)
};

inline std::vector<AttentionCase> attention_cases() {
  return {
      {"one token", {1, 1, 16}, {{1, -1}}},
      {"exactly one block", {2, 2, 16}, {{64, -1}}},
      {"one block and a token", {2, 1, 64}, {{65, -1}}},
      {"a prompt with three children, grouped heads",
       {4, 2, 64},
       {{70, -1}, {5, 0}, {1, 0}, {66, 0}}},
      {"two groups of other lengths", {3, 1, 128}, {{13, -1}, {7, 0}, {9, 0}, {3, -1}, {2, 3}}},
      {"children apart from their parents", {2, 2, 32}, {{9, -1}, {4, -1}, {6, 0}, {5, 1}, {7, 0}}},
      {"an empty completion", {2, 1, 16}, {{4, -1}, {0, 0}, {3, 0}}},
      {"seven heads on one, as Qwen2.5-0.5B", {14, 2, 64}, {{30, -1}, {40, 0}, {33, 0}}},
      {"a head size of half a vector", {2, 1, 8}, {{20, -1}, {3, 0}}},
      {"a head size of one vector and a half", {2, 2, 24}, {{67, -1}, {3, 0}}},
      {"more heads than a tile has rows", {200, 1, 16}, {{3, -1}, {2, 0}}},
  };
}

inline std::vector<Segment> make_segments(const AttentionCase& c) {
  std::vector<Segment> segments;
  std::int32_t begin = 0;
  for (const auto& [length, parent] : c.segments) {
    Segment s;
    s.begin = begin;
    s.length = length;
    s.parent = parent;
    if (parent >= 0) s.position = segments[static_cast<std::size_t>(parent)].length;
    segments.push_back(s);
    begin += length;
  }
  return segments;
}

// Widths and row counts of the row operators: below, at and beyond one vector, four vectors, and a
// task of the thread pool.
struct RowCase {
  std::int64_t rows;
  std::int64_t width;
};
inline constexpr RowCase kRowCases[] = {{1, 1},    {3, 5},    {2, 15},     {7, 16},
                                        {5, 17},   {4, 63},   {3, 64},     {9, 65},
                                        {11, 130}, {37, 896}, {1, 0x4001}, {300, 96}};

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

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
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

}  // namespace qgrpo::test
