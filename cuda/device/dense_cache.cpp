#include "cuda/device/dense_cache.h"

#include "cuda/sizes/slots.h"

namespace qgrpo::cuda {

DenseCache::Place DenseCache::take(std::uint64_t id, std::size_t bytes, std::size_t capacity) {
  for (const Entry& entry : entries_) {
    if (entry.id == id) return {entry.begin, true};
  }
  if (next_ + bytes > capacity) next_ = 0;
  const Entry fresh{id, next_, next_ + aligned_bytes(bytes)};
  std::erase_if(entries_,
                [&](const Entry& e) { return e.begin < fresh.end && fresh.begin < e.end; });
  entries_.push_back(fresh);
  next_ = fresh.end;
  return {fresh.begin, false};
}

void DenseCache::clear() {
  entries_.clear();
  next_ = 0;
}

}  // namespace qgrpo::cuda
