#include "model/ops/kv_cache.h"

#include "model/ops/error.h"

namespace qgrpo {

void require_slots(const char* op, std::span<const std::int32_t> slots, std::int64_t capacity) {
  for (const std::int32_t slot : slots) {
    require(slot >= 0 && slot < capacity, "{}: slot {}, the cache has {}", op, slot, capacity);
  }
}

void require_block_copies(std::span<const std::pair<std::int32_t, std::int32_t>> pairs,
                          std::int64_t blocks) {
  for (const auto& [from, to] : pairs) {
    require(from >= 0 && from < blocks && to >= 0 && to < blocks,
            "copy of cache block {} to {}: the cache has {} blocks", from, to, blocks);
  }
}

}  // namespace qgrpo
