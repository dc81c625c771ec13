#include "cuda/attention.h"

namespace qgrpo::cuda {

static_assert(kernels::kKeyTile == kAttentionKeyBlock, "the softmax's key blocks");

std::vector<kernels::QueryTile> query_tiles(std::span<const Segment> segments) {
  std::vector<kernels::QueryTile> tiles;
  for (const Segment& s : segments) {
    kernels::QueryTile tile;
    tile.own = s.begin;
    if (s.parent >= 0) {
      const Segment& parent = segments[static_cast<std::size_t>(s.parent)];
      tile.parent = parent.begin;
      tile.parent_length = parent.length;
    }
    for (std::int32_t done = 0; done < s.length; done += kernels::kQueryTile) {
      tile.query = s.begin + done;
      tile.queries = std::min(kernels::kQueryTile, s.length - done);
      tiles.push_back(tile);
    }
  }
  return tiles;
}

void Attention::forward(Device& device, TensorView o, TensorView lse, ConstTensorView q,
                        ConstTensorView k, ConstTensorView v, const AttentionShape& shape,
                        std::span<const Segment> segments) {
  using kernels::bf16;
  const std::int32_t dim = shape.head_dim;
  require(dim == 16 || dim == 32 || dim == 64 || dim == 128,
          "attention: head size {}; the CUDA backend has 16, 32, 64 and 128", dim);
  require(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0 && shape.heads <= 65535,
          "attention: {} query heads for {} key heads", shape.heads, shape.kv_heads);
  std::int64_t tokens = 0;
  for (const Segment& s : segments) tokens += s.length;
  const std::int64_t wide = tokens * shape.heads * dim;
  const std::int64_t narrow = tokens * shape.kv_heads * dim;
  require_view("attention", "o", o, DType::bf16, wide);
  require_view("attention", "lse", lse, DType::f32, tokens * shape.heads);
  require_view("attention", "q", q, DType::bf16, wide);
  require_view("attention", "k", k, DType::bf16, narrow);
  require_view("attention", "v", v, DType::bf16, narrow);
  const auto tiles = query_tiles(segments);
  if (tiles.empty()) return;
  const auto* on_device =
      tiles_.upload(device.stream(), std::span<const kernels::QueryTile>(tiles));
  QGRPO_CUDA(kernels::attention_forward(
      device.handle(), static_cast<bf16*>(o.data), lse.f32(), static_cast<const bf16*>(q.data),
      static_cast<const bf16*>(k.data), static_cast<const bf16*>(v.data), on_device,
      static_cast<std::int64_t>(tiles.size()), shape.heads, shape.kv_heads, dim));
}

}  // namespace qgrpo::cuda
