#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "model/ops/cases/cases.h"
#include "model/ops/ops.h"
#include "model/ops/rng.h"

// Tensors of the tests in any backend's memory: the same inputs everywhere, rounded to bf16
// beforehand, so that what differs is the rounding on the way and at the end.
namespace qgrpo::test {

inline float rounded(float x) {
  return bf16_to_f32(f32_to_bf16(x));
}

// Normal numbers times `scale`, rounded to bf16.
inline std::vector<float> bf16_values(std::int64_t n, std::uint32_t seed, float scale = 1.0f) {
  Rng rng(seed, RngStream::test);
  std::vector<float> out(static_cast<std::size_t>(n));
  for (float& x : out) x = rounded(scale * rng.normal());
  return out;
}

// A tensor in a backend's memory, with sentinels before and behind it.
class OnBackend {
 public:
  // Activations are bf16 on the device; `dtype` f32 keeps them float32 there too.
  OnBackend(Backend& backend, const std::vector<float>& values, Shape shape,
            DType dtype = DType::bf16)
      : backend_(&backend), shape_(shape) {
    dtype_ = backend.activation_dtype() == DType::f32 ? DType::f32 : dtype;
    REQUIRE(shape.elements() == static_cast<std::int64_t>(values.size()));
    std::vector<float> all(values.size() + 2 * kGuard, kSentinel);
    std::copy(values.begin(), values.end(), all.begin() + kGuard);
    count_ = values.size();
    buffer_ = backend.allocate(all.size() * dtype_size(dtype_));
    std::vector<std::uint16_t> halves;
    const void* from = all.data();
    if (dtype_ == DType::bf16) {
      for (const float x : all) halves.push_back(f32_to_bf16(x));
      from = halves.data();
    }
    backend.upload({buffer_->data(), dtype_, {static_cast<std::int64_t>(all.size())}}, from);
  }

  TensorView view() const {
    return {static_cast<std::byte*>(buffer_->data()) + kGuard * dtype_size(dtype_), dtype_, shape_};
  }
  operator TensorView() const { return view(); }
  operator ConstTensorView() const { return view(); }

  // The values; checks the sentinels.
  std::vector<float> values() const {
    std::vector<float> all(count_ + 2 * kGuard);
    const ConstTensorView whole{buffer_->data(), dtype_, {static_cast<std::int64_t>(all.size())}};
    if (dtype_ == DType::bf16) {
      std::vector<std::uint16_t> halves(all.size());
      backend_->download(halves.data(), whole);
      backend_->synchronize();
      for (std::size_t i = 0; i < all.size(); ++i) all[i] = bf16_to_f32(halves[i]);
    } else {
      backend_->download(all.data(), whole);
      backend_->synchronize();
    }
    bool intact = true;
    for (std::size_t i = 0; i < kGuard; ++i) {
      intact = intact && all[i] == kSentinel && all[kGuard + count_ + i] == kSentinel;
    }
    CHECK(intact);
    return {all.begin() + kGuard, all.end() - kGuard};
  }

 private:
  static constexpr std::size_t kGuard = 64;
  static constexpr float kSentinel = 12352.0f;  // a bf16
  Backend* backend_;
  Shape shape_;
  DType dtype_;
  std::size_t count_ = 0;
  std::unique_ptr<Buffer> buffer_;
};

// The same bits, NaN included.
inline bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

// The largest |device - host| / (1 + |host|); NaN counts as infinite.
inline double worst_difference(const std::vector<float>& device, const std::vector<float>& host) {
  REQUIRE(device.size() == host.size());
  double worst = 0.0;
  for (std::size_t i = 0; i < host.size(); ++i) {
    const double d = std::abs(static_cast<double>(device[i]) - static_cast<double>(host[i])) /
                     (1.0 + std::abs(static_cast<double>(host[i])));
    if (!(d <= worst)) worst = std::isnan(d) ? INFINITY : d;
  }
  return worst;
}

// One rounding to bf16.
inline constexpr double kRounding = cases::kBf16Rounding;

}  // namespace qgrpo::test
