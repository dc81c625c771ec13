#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "engine/block_manager.h"
#include "model/ops/error.h"
#include "model/ops/rng.h"

namespace {

using qgrpo::engine::BlockCopy;
using qgrpo::engine::BlockManager;
using qgrpo::engine::BlockTable;
using Slots = std::vector<std::int32_t>;

std::vector<std::int32_t> blocks_of(const BlockTable& table) {
  return {table.blocks().begin(), table.blocks().end()};
}

TEST_CASE("a table grows block by block and a freed block is handed out first") {
  BlockManager manager(4, 3);
  BlockTable a;
  Slots slots;
  std::vector<BlockCopy> copies;
  manager.append(a, 4, slots, copies);
  CHECK(slots == Slots{0, 1, 2, 3});
  CHECK(blocks_of(a) == Slots{0, 1});
  CHECK(manager.free_blocks() == 2);
  manager.append(a, 3, slots, copies);
  CHECK(slots == Slots{0, 1, 2, 3, 4, 5, 6});
  CHECK(blocks_of(a) == Slots{0, 1, 2});
  manager.free(a);
  CHECK(a.length() == 0);
  CHECK(manager.free_blocks() == 4);
  slots.clear();
  manager.append(a, 1, slots, copies);
  CHECK(slots == Slots{0});
  manager.free(a);
  CHECK(copies.empty());
}

TEST_CASE("a shared partial block is copied by all writers but the last, a full one never") {
  BlockManager manager(8, 4);
  BlockTable a;
  Slots slots;
  std::vector<BlockCopy> copies;
  manager.append(a, 6, slots, copies);  // block 0 full, block 1 half full
  BlockTable b = manager.fork(a);
  BlockTable c = manager.fork(a);
  CHECK(manager.references(0) == 3);
  CHECK(manager.references(1) == 3);
  slots.clear();
  manager.append(a, 1, slots, copies);
  manager.append(b, 1, slots, copies);
  manager.append(c, 1, slots, copies);
  CHECK(copies == std::vector<BlockCopy>{{1, 2}, {1, 3}});
  CHECK(slots == Slots{2 * 4 + 2, 3 * 4 + 2, 1 * 4 + 2});
  CHECK(manager.references(0) == 3);
  CHECK(manager.used_blocks() == 4);
  manager.append(a, 2, slots, copies);  // fills its own block 2 and opens another
  CHECK(copies.size() == 2);
  CHECK(blocks_of(a) == Slots{0, 2, 4});

  BlockTable full;
  manager.append(full, 4, slots, copies);
  BlockTable fork = manager.fork(full);
  manager.append(fork, 1, slots, copies);
  CHECK(copies.size() == 2);
  CHECK(blocks_of(fork) == Slots{5, 6});
  const std::vector<const BlockTable*> all{&a, &b, &c, &full, &fork};
  manager.check(all);
  for (BlockTable* table : {&a, &b, &c, &full, &fork}) manager.free(*table);
  manager.check({});
}

TEST_CASE("append without room says how much is missing and changes nothing") {
  BlockManager manager(2, 4);
  BlockTable a;
  Slots slots;
  std::vector<BlockCopy> copies;
  manager.append(a, 5, slots, copies);
  BlockTable b = manager.fork(a);
  slots.clear();
  CHECK_THROWS_WITH_AS(manager.append(b, 1, slots, copies),
                       "KV cache: 1 more tokens after 5 need 1 blocks of 4 tokens, 0 of 2 are free",
                       qgrpo::Error);
  CHECK(slots.empty());
  CHECK(copies.empty());
  CHECK(b.length() == 5);
  const std::vector<const BlockTable*> all{&a, &b};
  manager.check(all);
  manager.free(b);
  manager.append(a, 1, slots, copies);  // alone again: written in place
  CHECK(slots == Slots{5});
  CHECK(copies.empty());
  manager.free(a);
}

TEST_CASE("check finds a table that was forgotten and one that was not made by the manager") {
  BlockManager manager(4, 2);
  BlockTable a;
  Slots slots;
  std::vector<BlockCopy> copies;
  manager.append(a, 3, slots, copies);
  CHECK_THROWS_WITH_AS(manager.check({}), "KV cache: block 0 has 1 references, 0 tables hold it",
                       qgrpo::Error);
  const std::vector<const BlockTable*> twice{&a, &a};
  CHECK_THROWS_AS(manager.check(twice), qgrpo::Error);
  BlockTable moved = std::move(a);
  const std::vector<const BlockTable*> all{&a, &moved};
  manager.check(all);  // the moved-from table is empty, length and blocks
  manager.free(moved);
}

TEST_CASE("sizes that cannot be are refused") {
  CHECK_THROWS_AS(BlockManager(0, 16), qgrpo::Error);
  CHECK_THROWS_AS(BlockManager(4, 0), qgrpo::Error);
  CHECK_THROWS_AS(BlockManager(1 << 28, 16), qgrpo::Error);
  BlockManager manager(1, 1);
  CHECK_THROWS_AS(manager.references(1), qgrpo::Error);
}

// Every table has its own history of values; what is read through the table must be that history.
TEST_CASE("random appends, forks and frees keep every table's content") {
  qgrpo::Rng rng(7, qgrpo::RngStream::test);
  std::size_t copied = 0;
  std::size_t refused = 0;
  for (int round = 0; round < 200; ++round) {
    const auto blocks = static_cast<std::int32_t>(1 + rng.below(24));
    const auto size = static_cast<std::int32_t>(1 + rng.below(6));
    BlockManager manager(blocks, size);
    std::vector<std::uint32_t> cache(static_cast<std::size_t>(blocks * size), 0);
    struct Entry {
      BlockTable table;
      std::vector<std::uint32_t> history;
    };
    std::vector<Entry> entries;
    for (int action = 0; action < 60; ++action) {
      const std::uint32_t pick =
          entries.empty() ? 0 : rng.below(static_cast<std::uint32_t>(entries.size()));
      const std::uint32_t what = rng.below(8);
      if (entries.empty() || what == 0) {
        entries.emplace_back();
      } else if (what == 1) {
        Entry twin{manager.fork(entries[pick].table), entries[pick].history};
        entries.push_back(std::move(twin));
      } else if (what == 2) {
        manager.free(entries[pick].table);
        entries.erase(entries.begin() + pick);
      } else {
        Slots slots;
        std::vector<BlockCopy> copies;
        Entry& entry = entries[pick];
        const auto count = static_cast<std::int32_t>(rng.below(5));
        try {
          manager.append(entry.table, count, slots, copies);
        } catch (const qgrpo::Error&) {
          ++refused;
          REQUIRE(slots.empty());
          REQUIRE(copies.empty());
        }
        copied += copies.size();
        for (const auto& [from, to] : copies) {
          std::copy_n(cache.begin() + from * size, size, cache.begin() + to * size);
        }
        for (const std::int32_t slot : slots) {
          REQUIRE(manager.references(slot / size) == 1);
          const std::uint32_t value = rng.next_u32();
          cache[static_cast<std::size_t>(slot)] = value;
          entry.history.push_back(value);
        }
      }
      std::vector<const BlockTable*> tables;
      for (const Entry& entry : entries) {
        tables.push_back(&entry.table);
        REQUIRE(entry.table.length() == static_cast<std::int32_t>(entry.history.size()));
        for (std::int32_t i = 0; i < entry.table.length(); ++i) {
          const std::int32_t block = entry.table.blocks()[static_cast<std::size_t>(i / size)];
          REQUIRE(cache[static_cast<std::size_t>(block * size + i % size)] ==
                  entry.history[static_cast<std::size_t>(i)]);
        }
      }
      manager.check(tables);
    }
    for (Entry& entry : entries) manager.free(entry.table);
    manager.check({});
    REQUIRE(manager.free_blocks() == blocks);
  }
  CHECK(copied > 100);  // the interesting paths were taken
  CHECK(refused > 100);
}

}  // namespace
