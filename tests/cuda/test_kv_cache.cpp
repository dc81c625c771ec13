#include "cuda/kv_cache.h"

#include "cuda/device_support.h"
#include "support/case_runs.h"

// The operators that write the paged cache. They move bf16 values: equality, but for what RoPE
// rounds.
namespace qgrpo::test {
namespace {

TEST_CASE("cuda kv write: rows to their slots, nothing else") {
  const Backends b = both_backends();
  if (!b) return;
  for (const cases::KvWriteCase& c : cases::kv_write()) {
    CAPTURE(c.name);
    check_outputs(run_case(*b.cuda, c), run_case(*b.cpu, c), &cases::Bound::cuda);
  }
}

TEST_CASE("cuda rope and kv write: the bits of one after the other") {
  const Backends b = both_backends();
  if (!b) return;
  for (const cases::RopeKvCase& c : cases::rope_kv_write()) {
    CAPTURE(c.name);
    const Outputs fused = run_case(*b.cuda, c), apart = run_case(*b.cuda, c, /*fused=*/false);
    for (std::size_t i = 0; i < fused.size(); ++i) {
      CAPTURE(fused[i].name);
      CHECK(same_bits(fused[i].values, apart[i].values));
    }
    check_outputs(fused, run_case(*b.cpu, c), &cases::Bound::cuda);
  }
}

TEST_CASE("cuda copy of cache blocks: as if one after the other") {
  const Backends b = both_backends();
  if (!b) return;
  for (const cases::CopyBlocksCase& c : cases::copy_blocks()) {
    CAPTURE(c.name);
    check_outputs(run_case(*b.cuda, c), run_case(*b.cpu, c), &cases::Bound::cuda);
  }
}

TEST_CASE("cuda cache writes refuse what does not fit") {
  const Backends b = both_backends();
  if (!b) return;
  const FilledCache cache(*b.cuda, 6, 8, 32);
  const OnBackend row(*b.cuda, bf16_values(32, 67), {1, 32}),
      q(*b.cuda, bf16_values(64, 68), {1, 64});
  RolloutOps& ops = b.cuda->rollout();
  const std::vector<std::int32_t> outside = {48}, inside = {47}, negative = {-1};
  CHECK_THROWS_WITH_AS(ops.kv_write(cache.layer, row, row, outside),
                       "kv write: slot 48, the cache has 48", Error);
  CHECK_THROWS_AS(ops.kv_write(cache.layer, q, row, inside), Error);
  const RopeFrequencies turns = rope_frequencies(16, 1e6);
  CHECK_THROWS_AS(ops.rope_kv_write(cache.layer, q, row, row, turns, inside, negative), Error);
  CHECK_THROWS_WITH_AS(ops.rope_kv_write(cache.layer, q, row, row, turns, negative, inside),
                       "rope kv write: position -1 is negative", Error);
  CHECK_THROWS_AS(
      ops.rope_kv_write(cache.layer, q, row, row, rope_frequencies(24, 1e6), inside, inside),
      Error);
  const std::pair<std::int32_t, std::int32_t> pair{0, 6};
  CHECK_THROWS_WITH_AS(ops.copy_blocks(cache.layer, std::span(&pair, 1)),
                       "copy of cache block 0 to 6: the cache has 6 blocks", Error);
}

}  // namespace
}  // namespace qgrpo::test
