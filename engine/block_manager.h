#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "engine/prefix_cache.h"

namespace qgrpo::engine {

// The cache blocks of one sequence: token i lies at slot blocks()[i / B] * B + i % B. It holds
// references in a BlockManager, which alone makes and changes it. Give it back with
// BlockManager::free: a table that is dropped leaks its blocks, which is why it cannot be copied.
class BlockTable {
 public:
  BlockTable() = default;
  BlockTable(const BlockTable&) = delete;
  BlockTable& operator=(const BlockTable&) = delete;
  BlockTable(BlockTable&& other) noexcept;
  BlockTable& operator=(BlockTable&& other) noexcept;

  std::span<const std::int32_t> blocks() const { return blocks_; }
  std::int32_t length() const { return length_; }  // tokens

 private:
  friend class BlockManager;
  std::vector<std::int32_t> blocks_;
  std::int32_t length_ = 0;
};

// A cache block to copy: (from, to).
using BlockCopy = std::pair<std::int32_t, std::int32_t>;

// Who holds which block of the paged KV cache: a pool of num_blocks blocks of block_size tokens
// with reference counts. It knows numbers only, no memory. Deterministic: the block freed last is
// handed out first, a fresh pool hands out 0, 1, 2, ... Free blocks whose content is remembered
// (remember()) are handed out when there are no others, the one freed first before the rest.
//
// Invariants (check()): a block is either free, in one of the two lists, once, or referenced; its
// count is the number of tables that hold it; a table of L tokens holds ceil(L / B) blocks. A slot is
// handed out for writing only in a block with ONE reference, whose content is not remembered.
class BlockManager {
 public:
  // Throws Error unless both are positive and their product fits a slot number (int32).
  BlockManager(std::int32_t num_blocks, std::int32_t block_size);

  // Makes room for `count` more tokens at the end of `table` and appends their slots to `slots`. A
  // shared last block that is only partly filled is first replaced by a copy of its own: the pair
  // is appended to `copies`, to be copied before anything is written to the slots. Throws Error
  // with nothing changed when there are not enough free blocks.
  void append(BlockTable& table, std::int32_t count, std::vector<std::int32_t>& slots,
              std::vector<BlockCopy>& copies);

  // A second table over the same blocks (a partial last block included).
  BlockTable fork(const BlockTable& table);

  // Drops the table's references and empties it.
  void free(BlockTable& table);

  // The table's full blocks hold the keys and values of `tokens` under `key`: whoever has the same
  // beginning can take them, also once they are free, until they are handed out anew.
  void remember(const BlockTable& table, std::uint64_t key, std::span<const std::int32_t> tokens);
  // A table over the blocks that hold as many full blocks of `tokens` as are remembered: maybe none.
  BlockTable adopt(std::uint64_t key, std::span<const std::int32_t> tokens);

  std::int32_t num_blocks() const { return static_cast<std::int32_t>(references_.size()); }
  std::int32_t block_size() const { return block_size_; }
  std::int32_t free_blocks() const {
    return static_cast<std::int32_t>(free_list_.size() + remembered_.size());
  }
  std::int32_t used_blocks() const { return num_blocks() - free_blocks(); }
  std::int32_t references(std::int32_t block) const;

  // Blocks that hold `tokens` tokens: ceil(tokens / B).
  std::int64_t blocks_for(std::int64_t tokens) const {
    return (tokens + block_size_ - 1) / block_size_;
  }

  // Throws Error naming the first broken invariant. `tables` are all that exist.
  void check(std::span<const BlockTable* const> tables) const;

 private:
  std::int32_t take();
  void release(std::int32_t block);

  std::int32_t block_size_;
  std::vector<std::int32_t> references_;  // (num_blocks)
  std::vector<std::int32_t> free_list_;   // taken from the back
  PrefixCache prefixes_;
  std::map<std::uint64_t, std::int32_t>
      remembered_;                    // free blocks, by the time that they were freed
  std::vector<std::uint64_t> freed_;  // (num_blocks) that time; 0: not among them
  std::uint64_t time_ = 0;
};

}  // namespace qgrpo::engine
