#include "engine/prefix_cache.h"

#include "model/ops/error.h"

namespace qgrpo::engine {

std::vector<std::int32_t> PrefixCache::find(std::uint64_t key,
                                            std::span<const std::int32_t> tokens) const {
  std::vector<std::int32_t> blocks;
  const auto size = static_cast<std::size_t>(block_size_);
  Place place{key, 0, {}};
  for (; tokens.size() >= size; tokens = tokens.subspan(size)) {
    place.tokens.assign(tokens.begin(), tokens.begin() + block_size_);
    const auto found = entries_.find(place);
    if (found == entries_.end()) break;
    blocks.push_back(found->second.block);
    place.before = found->second.number;
  }
  return blocks;
}

void PrefixCache::add(std::uint64_t key, std::span<const std::int32_t> tokens,
                      std::span<const std::int32_t> blocks) {
  const auto size = static_cast<std::size_t>(block_size_);
  require(blocks.size() >= tokens.size() / size, "prefix cache: {} tokens in {} blocks of {}",
          tokens.size(), blocks.size(), block_size_);
  std::uint64_t before = 0;
  for (std::size_t i = 0; (i + 1) * size <= tokens.size(); ++i) {
    const auto of_block = tokens.subspan(i * size, size);
    Place place{key, before, {of_block.begin(), of_block.end()}};
    auto found = entries_.find(place);
    if (found == entries_.end()) {
      if (knows(blocks[i])) return;
      found = entries_.emplace(std::move(place), Entry{blocks[i], ++numbers_}).first;
      of_block_[blocks[i]] = found;
    }
    before = found->second.number;
  }
}

void PrefixCache::forget(std::int32_t block) {
  const auto found = of_block_.find(block);
  if (found == of_block_.end()) return;
  entries_.erase(found->second);
  of_block_.erase(found);
}

}  // namespace qgrpo::engine
