#include <doctest/doctest.h>

#include <set>
#include <vector>

#include "engine/scheduler.h"
#include "fake_engine.h"
#include "model/ops/error.h"
#include "model/ops/rng.h"

namespace {

using namespace qgrpo;
using namespace qgrpo::test;

// 0: prompts and decoding share steps.
constexpr std::int32_t kWindows[] = {0, 1, 3, 16};

GroupRequest random_request(Rng& rng, std::int32_t block_size) {
  GroupRequest request;
  std::uint32_t length = 1 + rng.below(24);
  if (rng.below(3) == 0) {  // a whole number of blocks
    length = static_cast<std::uint32_t>(block_size) * (1 + rng.below(4));
  }
  for (std::uint32_t i = 0; i < length; ++i) {
    request.prompt.push_back(static_cast<std::int32_t>(rng.below(kVocab)));
  }
  request.samples = static_cast<std::int32_t>(1 + rng.below(8));
  request.max_new_tokens = static_cast<std::int32_t>(rng.below(4) == 0 ? 1 : 1 + rng.below(20));
  request.sampling.temperature = static_cast<float>(rng.below(3));
  request.sampling.repetition_penalty = rng.below(2) == 0 ? 1.0f : 1.25f;
  if (rng.below(4) != 0) request.eos_ids = {0};
  if (rng.below(4) == 0) request.eos_ids.push_back(5);
  request.ignore_eos = rng.below(5) == 0;
  request.adapter = static_cast<std::int32_t>(rng.below(3)) - 1;
  request.seed = rng.next_u32();
  request.step = rng.below(100);
  request.prompt_key = rng.below(100);
  // Many begin alike, and share it.
  if (rng.below(2) == 0) {
    request.prefix_key = 1 + rng.below(2);
    const std::size_t alike = rng.below(static_cast<std::uint32_t>(request.prompt.size()) + 1);
    for (std::size_t i = 0; i < alike; ++i)
      request.prompt[i] = static_cast<std::int32_t>(i * i % kVocab);
  }
  return request;
}

SchedulerOptions random_options(Rng& rng) {
  SchedulerOptions options;
  options.block_size = static_cast<std::int32_t>(1 + rng.below(8));
  options.num_blocks = static_cast<std::int32_t>(4 + rng.below(60));
  options.max_sequences = static_cast<std::int32_t>(1 + rng.below(16));
  options.max_tokens = options.max_sequences + static_cast<std::int32_t>(rng.below(16));
  return options;
}

TEST_CASE("random groups in tiny pools: paged equals contiguous, no deadlock, no leak") {
  Rng rng(3, RngStream::test);
  std::size_t ran = 0, refused = 0, copies = 0, chunks = 0, shared_steps = 0, windows = 0;
  std::int64_t hits = 0;
  for (int round = 0; round < 400; ++round) {
    FakeEngine engine(random_options(rng));
    engine.window = kWindows[round % 4];
    const SchedulerOptions& options = engine.scheduler.options();
    std::vector<GroupId> ids;
    for (int arrival = 0; arrival < 20; ++arrival) {
      const GroupRequest request = random_request(rng, options.block_size);
      const bool fits =
          request.samples <= options.max_sequences &&
          blocks_of_group(static_cast<std::int64_t>(request.prompt.size()), request.max_new_tokens,
                          request.samples, options.block_size) <= options.num_blocks;
      if (fits) {
        ids.push_back(engine.add(request));
      } else {
        ++refused;
        REQUIRE_THROWS_AS(engine.scheduler.add(request), Error);
      }
      // Groups arrive while others run.
      for (std::uint32_t n = rng.below(4); n > 0 && engine.scheduler.has_work(); --n) {
        engine.step();
        shared_steps += engine.scheduler.running_groups() > 1 ? 1 : 0;
      }
    }
    engine.drain();
    for (const GroupId id : ids) engine.expect_complete(id);
    ran += ids.size();
    copies += engine.copies;
    chunks += engine.chunks;
    windows += engine.windows;
    hits += engine.scheduler.prefix_hits();
  }
  MESSAGE(ran << " groups, " << refused << " refused, " << copies << " blocks copied, " << chunks
              << " prompt chunks");
  CHECK(ran > 2000);  // the interesting paths were taken, each many times
  CHECK(refused > 500);
  CHECK(copies > 2000);
  CHECK(chunks > 1000);
  CHECK(shared_steps > 1000);
  CHECK(windows > 1000);
  CHECK(hits > 1000);
}

TEST_CASE("random cancellations and early stops leave the others as they were") {
  Rng rng(5, RngStream::test);
  std::size_t cancelled = 0, stopped = 0, whole = 0;
  for (int round = 0; round < 300; ++round) {
    FakeEngine engine(random_options(rng));
    engine.window = kWindows[round % 4];
    Scheduler& scheduler = engine.scheduler;
    std::vector<GroupId> ids;
    for (int arrival = 0; arrival < 12; ++arrival) {
      try {
        ids.push_back(engine.add(random_request(rng, scheduler.options().block_size)));
      } catch (const Error&) {
      }
    }
    std::set<GroupId> touched;
    const auto disturb = [&] {
      if (ids.empty() || rng.below(6) != 0) return;
      const GroupId id = ids[rng.below(static_cast<std::uint32_t>(ids.size()))];
      if (rng.below(2) == 0) {
        if (scheduler.cancel(id)) ++cancelled, touched.insert(id);
        REQUIRE_FALSE(scheduler.cancel(id));
      } else {
        const auto sample = static_cast<std::int32_t>(rng.below(at(engine.requests[id].samples)));
        if (scheduler.finish(id, sample)) ++stopped, touched.insert(id);
        REQUIRE_FALSE(scheduler.finish(id, sample));
      }
    };
    engine.before_commit = disturb;  // also while a step is under way
    while (scheduler.has_work()) {
      engine.step();
      disturb();
      scheduler.check();
    }
    engine.before_commit = nullptr;
    engine.drain();
    for (const GroupId id : ids) {
      if (touched.count(id) == 0) engine.expect_complete(id), ++whole;
    }
  }
  CHECK(cancelled > 100);
  CHECK(stopped > 100);
  CHECK(whole > 100);
}

TEST_CASE("a group alone needs exactly the blocks that were reserved for it") {
  for (std::int32_t prompt = 1; prompt <= 9; ++prompt) {
    for (std::int32_t fresh = 1; fresh <= 9; ++fresh) {
      for (std::int32_t samples = 1; samples <= 4; ++samples) {
        GroupRequest request;
        request.prompt.assign(at(prompt), 2);
        request.max_new_tokens = fresh;
        request.samples = samples;
        const std::int64_t need = blocks_of_group(prompt, fresh, samples, 4);
        FakeEngine engine({.num_blocks = static_cast<std::int32_t>(need),
                           .block_size = 4,
                           .max_sequences = 4,
                           .max_tokens = 5});
        const GroupId id = engine.add(request);
        engine.drain();
        engine.expect_complete(id);
        CAPTURE(prompt);
        CAPTURE(fresh);
        CAPTURE(samples);
        CHECK(engine.peak_blocks == need);
        // The prompt is computed once: in chunks of 5 rows, then a step a token.
        CHECK(engine.steps == at((prompt + 4) / 5 + fresh - 1));
      }
    }
  }
}

TEST_CASE("the plan's blocks are enough for every prompt up to the longest, and not more") {
  for (const std::int64_t block_size : {1, 4, 16}) {
    for (const std::int64_t samples : {1, 2, 8}) {
      for (const std::int64_t new_tokens : {1, 5, 16, 128}) {
        std::int64_t most = 0;
        for (std::int64_t prompt = 1; prompt <= 70; ++prompt) {
          most = std::max(most, blocks_of_group(prompt, new_tokens, samples, block_size));
          CHECK(most_blocks_of_group(prompt, new_tokens, samples, block_size) == most);
        }
      }
    }
  }
  // A prompt of 256 fills its last block; one of 152 does not, and needs one block more.
  CHECK(blocks_of_group(256, 128, 8, 16) == 80);
  CHECK(blocks_of_group(152, 128, 8, 16) == 81);
}

TEST_CASE("one step, in full: two samples after a prompt of five tokens") {
  Scheduler scheduler({.num_blocks = 8, .block_size = 4, .max_sequences = 2, .max_tokens = 8});
  GroupRequest request;
  request.prompt = {10, 11, 12, 13, 14};
  request.samples = 2;
  request.max_new_tokens = 3;
  request.eos_ids = {99};
  request.seed = 1;
  request.step = 2;
  request.prompt_key = 3;
  const GroupId id = scheduler.add(request);

  const Step prefill = scheduler.schedule();
  CHECK(prefill.tokens == request.prompt);
  CHECK(prefill.positions == Ids{0, 1, 2, 3, 4});
  CHECK(prefill.slots == Ids{0, 1, 2, 3, 4});
  CHECK(prefill.head_rows == Ids{4});
  REQUIRE(prefill.requests.size() == 2);
  CHECK(prefill.requests[1].row == 0);
  CHECK(prefill.requests[1].seed == 1);
  CHECK(prefill.requests[1].step == 2);
  CHECK(prefill.requests[1].prompt == 3);
  CHECK(prefill.requests[1].sample == 1);
  CHECK(prefill.requests[1].position == 5);
  CHECK_THROWS_AS(scheduler.schedule(), Error);  // not committed
  std::vector<SampledToken> sampled(2);
  sampled[0].token = 20;
  sampled[1].token = 21;
  sampled[1].policy_logprob = -0.5f;
  CHECK_THROWS_AS(scheduler.commit(prefill, std::span(sampled).first(1)), Error);
  const std::vector<TokenEvent> events = scheduler.commit(prefill, sampled);
  REQUIRE(events.size() == 2);
  CHECK(events[1].sampled.policy_logprob == -0.5f);
  CHECK_THROWS_AS(scheduler.commit(prefill, sampled), Error);  // twice

  const Step decode = scheduler.schedule();
  CHECK(decode.tokens == Ids{20, 21});
  CHECK(decode.positions == Ids{5, 5});
  CHECK(decode.copies == std::vector<BlockCopy>{{1, 2}});
  CHECK(decode.slots == Ids{2 * 4 + 1, 1 * 4 + 1});
  CHECK(decode.head_rows == Ids{0, 1});
  CHECK(decode.requests[1].row == 1);
  CHECK(decode.requests[1].position == 6);
  REQUIRE(decode.sequences.size() == 2);
  CHECK(decode.sequences[0].prompt_group == decode.sequences[1].prompt_group);
  CHECK(decode.sequences[1].prompt_length == 5);
  CHECK(decode.sequences[1].context_length == 6);
  CHECK(decode.sequences[1].block_table[0] == 0);
  sampled[0].token = 99;
  CHECK(scheduler.commit(decode, sampled)[0].finish == FinishReason::stop);

  const Step last = scheduler.schedule();
  CHECK(last.tokens == Ids{21});
  CHECK(last.targets[0].sample == 1);
  sampled[0].token = 99;  // eos goes before length
  CHECK(scheduler.commit(last, std::span(sampled).first(1))[0].finish == FinishReason::stop);
  CHECK_FALSE(scheduler.has_work());
  CHECK_FALSE(scheduler.cancel(id));
  CHECK(scheduler.blocks().free_blocks() == 8);
}

TEST_CASE("first come, first served: a small group does not overtake one that waits for room") {
  FakeEngine engine({.num_blocks = 10, .block_size = 2, .max_sequences = 4, .max_tokens = 16});
  GroupRequest big;
  big.prompt = {1, 2, 3};
  big.samples = 2;
  big.max_new_tokens = 6;  // 1 + 2 * 3 = 7 blocks
  GroupRequest small = big;
  small.samples = 1;
  small.max_new_tokens = 1;
  const GroupId first = engine.add(big);
  const GroupId second = engine.add(big);
  const GroupId third = engine.add(small);
  engine.step();
  CHECK(engine.scheduler.running_groups() == 1);
  CHECK(engine.scheduler.waiting_groups() == 2);
  while (engine.scheduler.waiting_groups() > 0) engine.step();
  CHECK(engine.completions[{first, 0}].finish == FinishReason::length);
  CHECK(engine.completions[{second, 0}].finish == FinishReason::none);
  engine.drain();
  for (const GroupId id : {first, second, third}) engine.expect_complete(id);
}

TEST_CASE("a group that can never run is refused with the figures and the remedy") {
  Scheduler scheduler({.num_blocks = 10,
                       .block_size = 16,
                       .max_sequences = 8,
                       .max_tokens = 64,
                       .max_context = 256});
  GroupRequest request;
  request.prompt.assign(20, 1);
  request.samples = 4;
  request.max_new_tokens = 100;
  CHECK_THROWS_WITH_AS(
      scheduler.add(request),
      "a prompt of 20 tokens with 4 completions of up to 100 tokens needs 29 KV blocks of 16 "
      "tokens, the cache has 10: give the cache more memory, or lower the number of new tokens or "
      "of completions",
      Error);
  request.samples = 9;
  CHECK_THROWS_WITH_AS(scheduler.add(request), doctest::Contains("raise max_sequences"), Error);
  request.samples = 1;
  request.max_new_tokens = 237;
  CHECK_THROWS_WITH_AS(scheduler.add(request), doctest::Contains("257 positions, the limit is 256"),
                       Error);
  CHECK_FALSE(scheduler.has_work());
}

TEST_CASE("invalid requests and options name the field") {
  Scheduler scheduler({.num_blocks = 10, .block_size = 16});
  GroupRequest good;
  good.prompt = {1};
  const auto refused = [&](auto change, const char* field) {
    GroupRequest request = good;
    change(request);
    CHECK_THROWS_WITH_AS(scheduler.add(request), doctest::Contains(field), Error);
  };
  refused([](GroupRequest& r) { r.prompt.clear(); }, "prompt");
  refused([](GroupRequest& r) { r.prompt = {1, -5}; }, "token 1 is -5");
  refused([](GroupRequest& r) { r.samples = 0; }, "samples");
  refused([](GroupRequest& r) { r.max_new_tokens = 0; }, "max_new_tokens");
  refused([](GroupRequest& r) { r.adapter = -2; }, "adapter");
  refused([](GroupRequest& r) { r.sampling.temperature = -1.0f; }, "temperature");
  refused([](GroupRequest& r) { r.sampling.temperature = 0.0f / 0.0f; }, "temperature");
  refused([](GroupRequest& r) { r.sampling.top_p = 0.0f; }, "top_p");
  refused([](GroupRequest& r) { r.sampling.top_k = -1; }, "top_k");
  refused([](GroupRequest& r) { r.sampling.min_p = 1.5f; }, "min_p");
  refused([](GroupRequest& r) { r.sampling.repetition_penalty = 0.0f; }, "repetition_penalty");
  CHECK_THROWS_WITH_AS(Scheduler({.num_blocks = 4, .max_sequences = 0}),
                       doctest::Contains("max_sequences"), Error);
  CHECK_THROWS_WITH_AS(Scheduler({.num_blocks = 4, .max_sequences = 8, .max_tokens = 7}),
                       doctest::Contains("max_tokens 7"), Error);
}

TEST_CASE("cancel_all in the middle of a step frees everything and work can go on") {
  FakeEngine engine({.num_blocks = 20, .block_size = 4, .max_sequences = 4, .max_tokens = 6});
  GroupRequest request;
  request.prompt.assign(13, 3);
  request.samples = 3;
  request.max_new_tokens = 8;
  engine.add(request);
  engine.add(request);
  for (int i = 0; i < 4; ++i) engine.step();
  const Step lost = engine.scheduler.schedule();
  engine.scheduler.cancel_all();
  engine.scheduler.check();
  CHECK_FALSE(engine.scheduler.has_work());
  CHECK(engine.scheduler.blocks().used_blocks() == 0);
  const GroupId id = engine.add(request);
  engine.drain();
  engine.expect_complete(id);
}

}  // namespace
