#include "engine/block_manager.h"

#include <limits>

#include "model/ops/error.h"

namespace qgrpo::engine {

namespace {

std::size_t index(std::int32_t i) {
  return static_cast<std::size_t>(i);
}

}  // namespace

BlockTable::BlockTable(BlockTable&& other) noexcept
    : blocks_(std::exchange(other.blocks_, {})), length_(std::exchange(other.length_, 0)) {}

BlockTable& BlockTable::operator=(BlockTable&& other) noexcept {
  if (this != &other) {
    blocks_ = std::exchange(other.blocks_, {});
    length_ = std::exchange(other.length_, 0);
  }
  return *this;
}

BlockManager::BlockManager(std::int32_t num_blocks, std::int32_t block_size)
    : block_size_(block_size), prefixes_(block_size) {
  require(num_blocks > 0 && block_size > 0,
          "KV cache of {} blocks of {} tokens: both must be positive", num_blocks, block_size);
  require(std::int64_t{num_blocks} * block_size <= std::numeric_limits<std::int32_t>::max(),
          "KV cache of {} blocks of {} tokens: slots are numbered in 32 bits, use fewer blocks",
          num_blocks, block_size);
  references_.assign(index(num_blocks), 0);
  freed_.assign(index(num_blocks), 0);
  free_list_.reserve(index(num_blocks));
  for (std::int32_t b = num_blocks; b-- > 0;) free_list_.push_back(b);
}

std::int32_t BlockManager::take() {
  std::int32_t block = 0;
  if (!free_list_.empty()) {
    block = free_list_.back();
    free_list_.pop_back();
  } else {
    block = remembered_.begin()->second;
    remembered_.erase(remembered_.begin());
    freed_[index(block)] = 0;
    prefixes_.forget(block);
  }
  references_[index(block)] = 1;
  return block;
}

void BlockManager::release(std::int32_t block) {
  if (--references_[index(block)] > 0) return;
  if (prefixes_.knows(block)) {
    freed_[index(block)] = ++time_;
    remembered_[time_] = block;
  } else {
    free_list_.push_back(block);
  }
}

void BlockManager::remember(const BlockTable& table, std::uint64_t key,
                            std::span<const std::int32_t> tokens) {
  require(static_cast<std::int64_t>(tokens.size()) <= table.length_,
          "KV cache: {} tokens to remember of a table of {}", tokens.size(), table.length_);
  prefixes_.add(key, tokens, table.blocks_);
}

BlockTable BlockManager::adopt(std::uint64_t key, std::span<const std::int32_t> tokens) {
  BlockTable table;
  table.blocks_ = prefixes_.find(key, tokens);
  table.length_ = static_cast<std::int32_t>(table.blocks_.size()) * block_size_;
  for (const std::int32_t b : table.blocks_) {
    if (references_[index(b)]++ > 0) continue;
    remembered_.erase(freed_[index(b)]);
    freed_[index(b)] = 0;
  }
  return table;
}

void BlockManager::append(BlockTable& table, std::int32_t count, std::vector<std::int32_t>& slots,
                          std::vector<BlockCopy>& copies) {
  require(count >= 0 && count <= std::numeric_limits<std::int32_t>::max() - table.length_,
          "KV cache: cannot append {} tokens to a sequence of {}", count, table.length_);
  if (count == 0) return;
  const std::int32_t begin = table.length_;
  const std::int32_t end = begin + count;
  const bool copy = begin % block_size_ != 0 && references_[index(table.blocks_.back())] > 1;
  const std::int64_t needed =
      blocks_for(end) - static_cast<std::int64_t>(table.blocks_.size()) + (copy ? 1 : 0);
  require(needed <= free_blocks(),
          "KV cache: {} more tokens after {} need {} blocks of {} tokens, {} of {} are free", count,
          begin, needed, block_size_, free_blocks(), num_blocks());

  if (copy) {
    const std::int32_t from = table.blocks_.back();
    const std::int32_t to = take();
    release(from);  // others hold it: it stays in use and keeps its content
    table.blocks_.back() = to;
    copies.emplace_back(from, to);
  }
  while (static_cast<std::int64_t>(table.blocks_.size()) < blocks_for(end)) {
    table.blocks_.push_back(take());
  }
  for (std::int32_t i = begin; i < end; ++i) {
    slots.push_back(table.blocks_[index(i / block_size_)] * block_size_ + i % block_size_);
  }
  table.length_ = end;
}

BlockTable BlockManager::fork(const BlockTable& table) {
  BlockTable twin;
  twin.blocks_ = table.blocks_;
  twin.length_ = table.length_;
  for (const std::int32_t b : twin.blocks_) ++references_[index(b)];
  return twin;
}

void BlockManager::free(BlockTable& table) {
  // Last block first, so that the next sequence gets them in the same order.
  for (std::size_t i = table.blocks_.size(); i-- > 0;) release(table.blocks_[i]);
  table.blocks_.clear();
  table.length_ = 0;
}

std::int32_t BlockManager::references(std::int32_t block) const {
  require(block >= 0 && block < num_blocks(), "KV cache: no block {}, there are {}", block,
          num_blocks());
  return references_[index(block)];
}

void BlockManager::check(std::span<const BlockTable* const> tables) const {
  std::vector<std::int32_t> held(references_.size(), 0);
  for (std::size_t t = 0; t < tables.size(); ++t) {
    const BlockTable& table = *tables[t];
    require(static_cast<std::int64_t>(table.blocks_.size()) == blocks_for(table.length_),
            "KV cache: table {} of {} tokens holds {} blocks, expected {}", t, table.length_,
            table.blocks_.size(), blocks_for(table.length_));
    for (const std::int32_t b : table.blocks_) {
      require(b >= 0 && b < num_blocks(), "KV cache: table {} holds block {}, there are {}", t, b,
              num_blocks());
      ++held[index(b)];
    }
  }
  std::vector<bool> is_free(references_.size(), false);
  for (const std::int32_t b : free_list_) {
    require(!is_free[index(b)], "KV cache: block {} is in the free list twice", b);
    is_free[index(b)] = true;
  }
  for (const auto& [time, b] : remembered_) {
    require(!is_free[index(b)] && freed_[index(b)] == time && prefixes_.knows(b),
            "KV cache: block {} is not rightly among the remembered ones", b);
    is_free[index(b)] = true;
  }
  for (std::int32_t b = 0; b < num_blocks(); ++b) {
    require(references_[index(b)] == held[index(b)],
            "KV cache: block {} has {} references, {} tables hold it", b, references_[index(b)],
            held[index(b)]);
    require(is_free[index(b)] == (held[index(b)] == 0),
            "KV cache: block {} with {} references is {} the free ones", b, held[index(b)],
            is_free[index(b)] ? "in" : "missing from");
  }
}

}  // namespace qgrpo::engine
