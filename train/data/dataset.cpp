#include "train/data/dataset.h"

#include <limits>
#include <numeric>
#include <utility>

#include "model/ops/error.h"
#include "model/ops/rng.h"

namespace qgrpo::train {

std::vector<std::uint32_t> epoch_order(std::size_t size, std::uint64_t seed, std::uint64_t epoch) {
  std::vector<std::uint32_t> order(size);
  std::iota(order.begin(), order.end(), 0u);
  Rng rng(seed, RngStream::data_order, static_cast<std::uint32_t>(epoch),
          static_cast<std::uint32_t>(epoch >> 32));
  for (std::size_t i = size; i > 1; --i) {
    std::swap(order[i - 1], order[rng.below(static_cast<std::uint32_t>(i))]);
  }
  return order;
}

DataCursor::DataCursor(std::size_t size, std::uint64_t seed, bool shuffle)
    : size_(size), seed_(seed), shuffle_(shuffle) {
  require(size > 0, "the dataset is empty, expected at least one example");
  require(size <= std::numeric_limits<std::uint32_t>::max(),
          "the dataset has {} examples, expected at most {}", size,
          std::numeric_limits<std::uint32_t>::max());
}

std::size_t DataCursor::sample(std::uint64_t position) {
  const std::uint64_t within = position % size_;
  if (!shuffle_) return static_cast<std::size_t>(within);
  if (cached_epoch_ != epoch(position)) {
    cached_epoch_ = epoch(position);
    order_ = epoch_order(size_, seed_, *cached_epoch_);
  }
  return order_[within];
}

}  // namespace qgrpo::train
