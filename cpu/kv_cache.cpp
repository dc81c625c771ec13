#include "cpu/kv_cache.h"

#include <algorithm>
#include <cstring>

namespace qgrpo::cpu {

void kv_write(LayerContext& context, const KvCacheLayer& cache, ConstTensorView k,
              ConstTensorView v, std::span<const std::int32_t> slots) {
  const auto tokens = static_cast<std::int64_t>(slots.size());
  if (tokens == 0) return;
  const std::int64_t width = cache.k.shape[2];
  const std::int64_t capacity = cache.k.shape[0] * cache.k.shape[1];
  require(k.elements() == tokens * width && v.elements() == tokens * width,
          "kv write: keys {} and values {} for {} slots of {}", k.shape.str(), v.shape.str(),
          tokens, width);
  require_slots("kv write", slots, capacity);
  const auto bytes = static_cast<std::size_t>(width) * sizeof(float);
  constexpr std::int64_t kChunk = 64;
  context.pool.parallel_for((tokens + kChunk - 1) / kChunk, [&](std::int64_t c, int) {
    for (std::int64_t t = c * kChunk; t < std::min(tokens, (c + 1) * kChunk); ++t) {
      const std::int64_t slot = slots[static_cast<std::size_t>(t)];
      std::memcpy(cache.k.f32() + slot * width, k.f32() + t * width, bytes);
      std::memcpy(cache.v.f32() + slot * width, v.f32() + t * width, bytes);
    }
  });
}

void copy_blocks(const KvCacheLayer& cache,
                 std::span<const std::pair<std::int32_t, std::int32_t>> pairs) {
  const std::int64_t block = cache.k.shape[1] * cache.k.shape[2];
  const auto bytes = static_cast<std::size_t>(block) * sizeof(float);
  require_block_copies(pairs, cache.k.shape[0]);
  for (const auto& [from, to] : pairs) {
    if (from == to) continue;
    std::memcpy(cache.k.f32() + to * block, cache.k.f32() + from * block, bytes);
    std::memcpy(cache.v.f32() + to * block, cache.v.f32() + from * block, bytes);
  }
}

}  // namespace qgrpo::cpu
