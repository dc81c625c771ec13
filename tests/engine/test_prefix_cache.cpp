// Prompts that begin alike share the cache of it.

#include <doctest/doctest.h>

#include <vector>

#include "engine/prefix_cache.h"
#include "generator_cases.h"
#include "windowed_backend.h"

namespace {

using namespace qgrpo;
using namespace qgrpo::test;

TEST_CASE("prefix cache: a block is found behind the blocks before it, under its key") {
  PrefixCache cache(2);
  const std::vector<std::int32_t> tokens = {1, 2, 3, 4, 5};
  cache.add(7, tokens, std::vector<std::int32_t>{10, 11, 12});
  using Blocks = std::vector<std::int32_t>;
  CHECK(cache.find(7, tokens) == Blocks{10, 11});
  CHECK(cache.find(8, tokens).empty());
  CHECK(cache.find(7, Blocks{1, 2, 3}) == Blocks{10});
  CHECK(cache.find(7, Blocks{3, 4}).empty());
  CHECK(cache.find(7, Blocks{1, 2, 3, 5}) == Blocks{10});
  CHECK_FALSE(cache.knows(12));  // not full
  // Another that begins alike.
  cache.add(7, Blocks{1, 2, 9, 9}, Blocks{20, 21});
  CHECK(cache.find(7, Blocks{1, 2, 9, 9}) == Blocks{10, 21});
  CHECK_FALSE(cache.knows(20));
  // Without what is before it nothing is found, also when that comes again.
  cache.forget(10);
  CHECK(cache.find(7, tokens).empty());
  cache.add(7, Blocks{1, 2}, Blocks{30});
  CHECK(cache.find(7, tokens) == Blocks{30});
  CHECK(cache.knows(11));
  cache.forget(11);
  cache.forget(11);
}

TEST_CASE("block manager: remembered blocks are free, and handed out last, the oldest first") {
  BlockManager blocks(4, 2);
  std::vector<std::int32_t> slots;
  std::vector<BlockCopy> copies;
  const std::vector<std::int32_t> a = {1, 2, 3, 4}, b = {5, 6};
  BlockTable first, second;
  blocks.append(first, 4, slots, copies);
  blocks.append(second, 2, slots, copies);
  blocks.remember(first, 1, a);
  blocks.remember(second, 1, b);
  blocks.free(first);
  blocks.free(second);
  CHECK(blocks.free_blocks() == 4);
  blocks.check({});
  BlockTable again = blocks.adopt(1, a);
  CHECK(again.length() == 4);
  CHECK(blocks.free_blocks() == 2);
  BlockTable twin = blocks.adopt(1, a);  // also while it is in use
  CHECK(blocks.references(again.blocks()[0]) == 2);
  blocks.free(twin);
  BlockTable other;
  blocks.append(other, 4, slots, copies);  // the one that was never used, then b's
  CHECK(other.blocks()[1] == 2);
  CHECK(blocks.adopt(1, b).length() == 0);
  CHECK_THROWS_AS(blocks.append(other, 1, slots, copies), Error);
  blocks.free(again);
  blocks.append(other, 2, slots, copies);  // a's second block: freed before its first
  BlockTable left = blocks.adopt(1, a);
  CHECK(left.length() == 2);
  const BlockTable* tables[] = {&other, &left};
  blocks.check(tables);
  blocks.free(left);
  blocks.free(other);
  blocks.check({});
}

TEST_CASE("generator: the same bits with a shared beginning") {
  for (const bool windows : {false, true}) {
    CAPTURE(windows);
    const auto cpu = cpu::make_cpu_backend(1);
    WindowedBackend windowed;
    Backend& backend = windows ? static_cast<Backend&>(windowed) : *cpu;
    const auto run = [&](bool shared) {
      Owned owned(backend, small_capacity(5));
      Results results;
      for (int round = 0; round < 3; ++round) {
        std::vector<GroupId> ids;
        for (GroupRequest r : requests()) {
          for (std::size_t i = 0; i + 1 < r.prompt.size(); ++i)
            r.prompt[i] = static_cast<std::int32_t>(i * 5 % 40);
          r.prompt.back() += round;
          if (shared) r.prefix_key = static_cast<std::uint64_t>(r.adapter + 2);
          ids.push_back(owned.generator->add(r));
        }
        while (owned.generator->has_work()) {
          owned.generator->step();
          owned.generator->scheduler().check();
        }
        for (const GroupId id : ids) results[id] = owned.generator->take(id);
      }
      CHECK(owned.generator->scheduler().blocks().used_blocks() == 0);
      CHECK((owned.generator->scheduler().prefix_hits() > 60) == shared);
      return results;
    };
    check_equal(run(true), run(false));
  }
}

}  // namespace
