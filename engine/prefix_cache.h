#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

namespace qgrpo::engine {

// Which cache blocks hold the keys and values of which beginnings of prompts. A block is found by its tokens and by
// all tokens before it: exact, no hashes. Only full blocks, which are never written again. It knows numbers only;
// whether a block is in use is the BlockManager's business.
class PrefixCache {
 public:
  explicit PrefixCache(std::int32_t block_size) : block_size_(block_size) {}

  // The blocks of as many full blocks of `tokens`, from the first on, as are known under `key`.
  std::vector<std::int32_t> find(std::uint64_t key, std::span<const std::int32_t> tokens) const;
  // The full blocks of `tokens` lie in these blocks. What is known already stays where it is.
  void add(std::uint64_t key, std::span<const std::int32_t> tokens,
           std::span<const std::int32_t> blocks);
  bool knows(std::int32_t block) const { return of_block_.contains(block); }
  // The block is given to somebody else. (What was found through it is found no more.)
  void forget(std::int32_t block);

 private:
  // A full block: what was before it, as the number that its predecessor was given; 0: nothing.
  struct Place {
    std::uint64_t key = 0;
    std::uint64_t before = 0;
    std::vector<std::int32_t> tokens;
    auto operator<=>(const Place&) const = default;
  };
  struct Entry {
    std::int32_t block = 0;
    std::uint64_t number = 0;  // never given twice
  };
  using Entries = std::map<Place, Entry>;

  std::int32_t block_size_;
  Entries entries_;
  std::map<std::int32_t, Entries::iterator> of_block_;
  std::uint64_t numbers_ = 0;
};

}  // namespace qgrpo::engine
