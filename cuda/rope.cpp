#include "cuda/rope.h"

#include "cuda/kernels/rope.h"
#include "cuda/sizes/paged_attention.h"
#include "cuda/views.h"
#include "model/ops/rope.h"

namespace qgrpo::cuda {

void Rope::apply(Device& device, TensorView x, const RopeFrequencies& rope,
                 std::span<const std::int32_t> positions, float sign) {
  if (positions.empty()) return;
  const auto tokens = static_cast<std::int64_t>(positions.size());
  const std::int64_t head_dim = rope.head_dim();
  require(head_dim > 0 && head_dim % 4 == 0, "rope: head size {} must be a multiple of 4",
          head_dim);
  require(x.elements() % (tokens * head_dim) == 0, "rope: x is {} for {} tokens with heads of {}",
          x.shape.str(), tokens, head_dim);
  require_view("rope", "x", x, DType::bf16, x.elements());
  const std::int64_t turned = rope_table_positions("rope", positions);
  const std::int32_t* places = positions_.upload(device, positions);
  const float2* turns = table(device, rope, turned);
  QGRPO_CUDA(kernels::rope(device.handle(), static_cast<kernels::bf16*>(x.data), turns, places,
                           tokens, x.elements() / (tokens * head_dim), head_dim, sign));
}

const float2* Rope::table(Device& device, const RopeFrequencies& rope, std::int64_t positions) {
  if (rope == rope_ && positions <= rows_ &&
      generation_ == device.scratch_generation(Slot::rope_table)) {
    return table_;
  }
  const std::int64_t rows = rope_table_rows(positions);
  const std::int64_t half = rope.head_dim() / 2;
  std::vector<float2> host;
  host.reserve(static_cast<std::size_t>(rows * half));
  for (std::int64_t p = 0; p < rows; ++p) {
    for (std::int64_t i = 0; i < half; ++i) {
      const RopeTurn turn = rope_turn(rope, p, static_cast<std::size_t>(i));
      host.push_back({turn.cosine, turn.sine});
    }
  }
  table_ = device.scratch<float2>(Slot::rope_table, rows * half);
  QGRPO_CUDA(cudaMemcpyAsync(table_, host.data(), host.size() * sizeof(float2),
                             cudaMemcpyHostToDevice, device.handle()));
  device.stream().synchronize();  // the copy reads `host`
  rope_ = rope;
  rows_ = rows;
  generation_ = device.scratch_generation(Slot::rope_table);
  return table_;
}

}  // namespace qgrpo::cuda
