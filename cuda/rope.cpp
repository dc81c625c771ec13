#include "cuda/rope.h"

#include <cmath>

#include "cuda/kernels/rows.h"

namespace qgrpo::cuda {

void Rope::apply(Device& device, TensorView x, std::int32_t head_dim, double theta,
                 std::span<const std::int32_t> positions, float sign) {
  if (positions.empty()) return;
  const auto tokens = static_cast<std::int64_t>(positions.size());
  require(head_dim > 0 && head_dim % 4 == 0, "rope: head size {} must be a multiple of 4",
          head_dim);
  require(x.elements() % (tokens * head_dim) == 0, "rope: x is {} for {} tokens with heads of {}",
          x.shape.str(), tokens, head_dim);
  require_view("rope", "x", x, DType::bf16, x.elements());
  const auto [least, most] = std::minmax_element(positions.begin(), positions.end());
  require(*least >= 0, "rope: position {} is negative", *least);
  extend(device, head_dim, theta, std::int64_t{*most} + 1);
  QGRPO_CUDA(kernels::rope(device.handle(), static_cast<kernels::bf16*>(x.data),
                           static_cast<const float2*>(table_.data()),
                           positions_.upload(device.stream(), positions), tokens,
                           x.elements() / (tokens * head_dim), head_dim, sign));
}

void Rope::extend(Device& device, std::int32_t head_dim, double theta, std::int64_t positions) {
  if (head_dim == head_dim_ && theta == theta_ && positions <= rows_) return;
  // Doubled, so that a text that grows token by token does not make it anew each time.
  rows_ = head_dim == head_dim_ && theta == theta_ ? std::max(positions, 2 * rows_) : positions;
  head_dim_ = head_dim;
  theta_ = theta;
  const std::int64_t half = head_dim / 2;
  std::vector<float2> host;
  host.reserve(static_cast<std::size_t>(rows_ * half));
  for (std::int64_t p = 0; p < rows_; ++p) {
    for (std::int64_t i = 0; i < half; ++i) {
      const double angle =
          static_cast<double>(p) *
          std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
      host.push_back({static_cast<float>(std::cos(angle)), static_cast<float>(std::sin(angle))});
    }
  }
  const std::size_t bytes = host.size() * sizeof(float2);
  device.stream().synchronize();  // kernels may still read the old one
  table_ = DeviceMemory();
  table_ = DeviceMemory(bytes);
  QGRPO_CUDA(
      cudaMemcpyAsync(table_.data(), host.data(), bytes, cudaMemcpyHostToDevice, device.handle()));
  device.stream().synchronize();
}

}  // namespace qgrpo::cuda
