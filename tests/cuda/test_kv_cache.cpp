#include "cuda/kv_cache.h"
#include "cuda/paged_attention_sizes.h"
#include "cuda/paged_support.h"

// The operators that write the paged cache. They move bf16 values: equality, but for what RoPE
// rounds.
namespace qgrpo::test {
namespace {

struct Cache {
  Cache(Backend& backend, std::int64_t blocks, std::int64_t block_size, std::int64_t width)
      : k(backend, bf16_values(blocks * block_size * width, 60), {blocks, block_size, width}),
        v(backend, bf16_values(blocks * block_size * width, 61), {blocks, block_size, width}),
        layer{k, v} {}
  OnBackend k, v;
  KvCacheLayer layer;
};

TEST_CASE("cuda kv write: rows to their slots, nothing else") {
  const Backends b = both_backends();
  if (!b) return;
  for (const std::int64_t width : {8, 20, 128, 256, 4096}) {
    for (const std::vector<std::int32_t>& slots :
         {std::vector<std::int32_t>{}, {23}, {0, 5, 47, 6, 4}}) {
      CAPTURE(width);
      CAPTURE(slots.size());
      const auto tokens = static_cast<std::int64_t>(slots.size());
      std::vector<std::vector<float>> k, v;
      for (Backend* backend : {b.cuda.get(), b.cpu.get()}) {
        const Cache cache(*backend, 6, 8, width);
        const OnBackend ks(*backend, bf16_values(tokens * width, 62), {tokens, width}),
            vs(*backend, bf16_values(tokens * width, 63), {tokens, width});
        backend->rollout().kv_write(cache.layer, ks, vs, slots);
        k.push_back(cache.k.values());
        v.push_back(cache.v.values());
      }
      CHECK(k[0] == k[1]);
      CHECK(v[0] == v[1]);
    }
  }
}

TEST_CASE("cuda rope and kv write: the bits of one after the other") {
  const Backends b = both_backends();
  if (!b) return;
  struct Heads {
    std::int32_t heads, kv_heads, dim;
  };
  for (const auto [heads, kv_heads, dim] :
       {Heads{16, 2, 128}, Heads{14, 2, 64}, Heads{4, 4, 16}, Heads{3, 1, 32}, Heads{2, 1, 20}}) {
    CAPTURE(dim);
    const std::vector<std::int32_t> positions = {0, 1, 700, 63, 64, 2, 5};
    const std::vector<std::int32_t> slots = {9, 8, 40, 0, 47, 31, 16};
    const std::int64_t tokens = 7, wide = heads * dim, narrow = kv_heads * dim;
    const auto q = bf16_values(tokens * wide, 64), k = bf16_values(tokens * narrow, 65),
               v = bf16_values(tokens * narrow, 66);
    const auto run = [&](Backend& backend, bool fused) {
      const Cache cache(backend, 6, 8, narrow);
      const OnBackend qs(backend, q, {tokens, wide}), ks(backend, k, {tokens, narrow}),
          vs(backend, v, {tokens, narrow});
      if (fused) {
        backend.rollout().rope_kv_write(cache.layer, qs, ks, vs, dim, 1e6, positions, slots);
      } else {
        backend.layer().rope_forward(qs, dim, 1e6, positions);
        backend.layer().rope_forward(ks, dim, 1e6, positions);
        backend.rollout().kv_write(cache.layer, ks, vs, slots);
      }
      CHECK(vs.values() == v);
      return std::vector<std::vector<float>>{qs.values(), ks.values(), cache.k.values(),
                                             cache.v.values()};
    };
    const auto fused = run(*b.cuda, true), apart = run(*b.cuda, false), cpu = run(*b.cpu, true);
    for (std::size_t i = 0; i < fused.size(); ++i) {
      CAPTURE(i);
      CHECK(same_bits(fused[i], apart[i]));
      CHECK(worst_difference(fused[i], cpu[i]) < kRounding);
    }
  }
}

TEST_CASE("cuda rope: its table is made anew when the slots move, and when another model asks") {
  const Backends b = both_backends();
  if (!b) return;
  const std::vector<std::int32_t> positions = {63, 2, 1};
  const auto x = bf16_values(3 * 32, 69);
  cuda::Device device;
  cuda::Rope rope;
  const auto turned = [&](std::int32_t dim, double theta) {
    const OnBackend xs(*b.cuda, x, {3, 32});
    rope.apply(device, xs, dim, theta, positions, 1.0f);
    device.stream().synchronize();
    return xs.values();
  };
  const auto expected = [&](std::int32_t dim, double theta) {
    const OnBackend xs(*b.cpu, x, {3, 32});
    b.cpu->layer().rope_forward(xs, dim, theta, positions);
    return xs.values();
  };
  const auto check = [&](std::int32_t dim, double theta) {
    CHECK(worst_difference(turned(dim, theta), expected(dim, theta)) < kRounding);
  };
  check(32, 1e6);
  check(32, 1e4);
  check(16, 1e4);
  cuda::SlotBytes slots{};
  slots[static_cast<std::size_t>(cuda::Slot::rope_table)] = cuda::rope_table_bytes(64, 32);
  slots[static_cast<std::size_t>(cuda::Slot::rope_positions)] = cuda::token_index_bytes(3);
  device.reserve(0, slots);
  check(16, 1e4);
  check(32, 1e4);
}

TEST_CASE("cuda copy of cache blocks: as if one after the other") {
  const Backends b = both_backends();
  if (!b) return;
  using Pairs = std::vector<std::pair<std::int32_t, std::int32_t>>;
  for (const std::int64_t width : {5, 16, 256}) {
    for (const Pairs& pairs : {Pairs{}, Pairs{{0, 5}}, Pairs{{2, 2}}, Pairs{{1, 0}, {1, 4}, {3, 5}},
                               Pairs{{0, 1}, {1, 2}, {2, 3}},     // a chain
                               Pairs{{0, 5}, {1, 0}, {5, 1}},     // a swap
                               Pairs{{0, 5}, {1, 5}, {5, 4}}}) {  // written twice
      CAPTURE(width);
      CAPTURE(pairs.size());
      std::vector<std::vector<float>> k, v;
      for (Backend* backend : {b.cuda.get(), b.cpu.get()}) {
        const Cache cache(*backend, 6, 16, width);
        backend->rollout().copy_blocks(cache.layer, pairs);
        k.push_back(cache.k.values());
        v.push_back(cache.v.values());
      }
      CHECK(k[0] == k[1]);
      CHECK(v[0] == v[1]);
    }
  }
}

TEST_CASE("cuda cache writes refuse what does not fit") {
  const Backends b = both_backends();
  if (!b) return;
  const Cache cache(*b.cuda, 6, 8, 32);
  const OnBackend row(*b.cuda, bf16_values(32, 67), {1, 32}),
      q(*b.cuda, bf16_values(64, 68), {1, 64});
  RolloutOps& ops = b.cuda->rollout();
  const std::vector<std::int32_t> outside = {48}, inside = {47}, negative = {-1};
  CHECK_THROWS_WITH_AS(ops.kv_write(cache.layer, row, row, outside),
                       "kv write: slot 48, the cache has 48", Error);
  CHECK_THROWS_AS(ops.kv_write(cache.layer, q, row, inside), Error);
  CHECK_THROWS_AS(ops.rope_kv_write(cache.layer, q, row, row, 16, 1e6, inside, negative), Error);
  CHECK_THROWS_WITH_AS(ops.rope_kv_write(cache.layer, q, row, row, 16, 1e6, negative, inside),
                       "rope kv write: position -1 is negative", Error);
  CHECK_THROWS_AS(ops.rope_kv_write(cache.layer, q, row, row, 24, 1e6, inside, inside), Error);
  const std::pair<std::int32_t, std::int32_t> pair{0, 6};
  CHECK_THROWS_WITH_AS(ops.copy_blocks(cache.layer, std::span(&pair, 1)),
                       "copy of cache block 0 to 6: the cache has 6 blocks", Error);
}

}  // namespace
}  // namespace qgrpo::test
