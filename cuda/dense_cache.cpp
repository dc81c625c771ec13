#include "cuda/dense_cache.h"

#include "cuda/device.h"

namespace qgrpo::cuda {

DenseCache::Place DenseCache::take(Device& device, std::uint64_t id, std::size_t bytes) {
  // It has moved, will move, or another has written to it.
  if (takes_ != device.takes(Slot::weight) || bytes > device.scratch_size(Slot::weight)) {
    entries_.clear();
    next_ = 0;
  }
  const std::size_t wanted = std::max(bytes, device.scratch_size(Slot::weight));
  auto* base = device.scratch<std::byte>(Slot::weight, static_cast<std::int64_t>(wanted));
  takes_ = device.takes(Slot::weight);
  for (const Entry& entry : entries_) {
    if (entry.id == id) return {base + entry.begin, true};
  }
  if (next_ + bytes > device.scratch_size(Slot::weight)) next_ = 0;
  const Entry fresh{id, next_, next_ + aligned_bytes(bytes)};
  std::erase_if(entries_,
                [&](const Entry& e) { return e.begin < fresh.end && fresh.begin < e.end; });
  entries_.push_back(fresh);
  next_ = fresh.end;
  return {base + fresh.begin, false};
}

}  // namespace qgrpo::cuda
