// Decode windows: the same completions as one token a step, bit for bit.

#include <doctest/doctest.h>

#include <algorithm>

#include "generator_cases.h"
#include "windowed_backend.h"

namespace {

using namespace qgrpo;
using namespace qgrpo::test;

Results run_all(Backend& backend, std::int32_t window) {
  Owned owned(backend, small_capacity(window));
  for (const GroupRequest& r : requests()) owned.generator->add(r);
  Results results = owned.generator->run();
  CHECK(owned.generator->scheduler().blocks().used_blocks() == 0);
  return results;
}

TEST_CASE("windows of 1, 3 and 16 tokens give what one token a step gives, bit for bit") {
  const auto cpu = cpu::make_cpu_backend(1);
  const Results expected = run_all(*cpu, 16);
  std::size_t tokens = 0, stopped = 0, full = 0;
  for (const auto& [group, completions] : expected) {
    for (const Completion& c : completions) {
      tokens += c.ids.size();
      (c.finish == FinishReason::stop ? stopped : full) += 1;
    }
  }
  CHECK(tokens > 60);  // both ends are reached, several times
  CHECK(stopped >= 4);
  CHECK(full >= 4);
  for (const std::int32_t window : {1, 3, 16}) {
    CAPTURE(window);
    WindowedBackend backend;
    check_equal(run_all(backend, window), expected);
    CHECK(backend.windows().longest == window);
    CHECK(backend.windows().windows > 2);
    CHECK(backend.windows().padded > 0);
  }
}

// Runs all requests; `disturb` is called after each step with its events.
template <typename F>
Results run_disturbed(Backend& backend, std::int32_t window, F disturb) {
  Owned owned(backend, small_capacity(window));
  Results results;
  std::vector<GroupId> ids;
  for (const GroupRequest& r : requests()) ids.push_back(owned.generator->add(r));
  while (owned.generator->has_work()) {
    const auto events = owned.generator->step();
    for (const TokenEvent& event : events) disturb(*owned.generator, event);
    owned.generator->scheduler().check();
  }
  for (const GroupId id : ids) results[id] = owned.generator->take(id);
  return results;
}

TEST_CASE("a sample that the caller ends in the middle of a window ends there") {
  const auto stop = [](Generator& generator, const TokenEvent& event) {
    // Also on a token that ends the sample anyway: that changes nothing.
    if (event.index == 3 + event.sample && event.finish == FinishReason::none) {
      generator.finish(event.group, event.sample);
    }
  };
  const auto cpu = cpu::make_cpu_backend(1);
  const Results expected = run_disturbed(*cpu, 16, stop);
  std::size_t cut = 0;
  for (const auto& [group, completions] : expected) {
    for (std::size_t s = 0; s < completions.size(); ++s) {
      REQUIRE(completions[s].ids.size() <= 4 + s);
      if (completions[s].ids.size() == 4 + s && completions[s].finish == FinishReason::stop) ++cut;
    }
  }
  CHECK(cut >= 4);
  for (const std::int32_t window : {1, 3, 16}) {
    CAPTURE(window);
    WindowedBackend backend;
    check_equal(run_disturbed(backend, window, stop), expected);
  }
}

TEST_CASE("a prompt's ids outside the vocabulary are refused by their place") {
  WindowedBackend backend;
  Owned owned(backend, small_capacity(16));
  Generator& generator = *owned.generator;
  for (const std::int32_t id : {-1, 1 << 20}) {
    GroupRequest request = requests()[0];
    request.prompt.back() = id;
    CHECK_THROWS_WITH_AS(generator.add(request), doctest::Contains("is outside the vocabulary"),
                         Error);
  }
  CHECK_FALSE(generator.has_work());
}

TEST_CASE("cancelling between the tokens of a window leaves nothing behind") {
  WindowedBackend backend;
  Owned owned(backend, small_capacity(16));
  Generator& generator = *owned.generator;
  GroupRequest request = requests()[4];
  request.ignore_eos = true;
  request.max_new_tokens = 20;
  const GroupId cut = generator.add(request);
  for (int i = 0; i < 5; ++i) generator.step();
  CHECK(generator.has_work());
  generator.cancel_all();
  CHECK_FALSE(generator.has_work());
  CHECK(generator.step().empty());
  CHECK(generator.scheduler().blocks().used_blocks() == 0);
  CHECK(generator.take(cut).front().ids.size() == 4);  // the prompt takes two steps

  const auto cpu = cpu::make_cpu_backend(1);
  Owned plain(*cpu, small_capacity(16));
  plain.generator->add(request);
  generator.add(request);
  const Results found = generator.run();
  REQUIRE(found.size() == 1);
  check_equal({{1, found.begin()->second}}, plain.generator->run());

  // The same from within run().
  generator.add(request);
  std::size_t steps = 0;
  CHECK(generator.run([&](std::span<const TokenEvent>) { return ++steps < 6; }).empty());
  CHECK(steps == 6);
  CHECK_FALSE(generator.has_work());
}

TEST_CASE("prompts and decode windows take turns, and each token is delivered once") {
  WindowedBackend backend;
  Owned owned(backend, small_capacity(16));
  Generator& generator = *owned.generator;
  GroupRequest request = requests()[2];  // four tokens of prompt: one block
  request.ignore_eos = true;
  request.samples = 2;
  request.max_new_tokens = 18;
  generator.add(request);
  CHECK(generator.step().size() == 2);  // the prompt: both samples' first token
  CHECK(backend.windows().windows == 0);
  for (int i = 0; i < 16; ++i) {
    CHECK(generator.step().size() == 2);
    CHECK(backend.windows().windows == 1);  // one window has them all
  }
  CHECK(generator.step().size() == 2);  // 18 = 1 + 16 + 1
  CHECK(backend.windows().windows == 2);
  CHECK_FALSE(generator.has_work());
}

TEST_CASE("one window, in full; what cannot have been drawn is refused") {
  Scheduler scheduler({.num_blocks = 12, .block_size = 2, .max_sequences = 2, .max_tokens = 8});
  GroupRequest request;
  request.prompt = {1, 2, 3};
  request.samples = 2;
  request.max_new_tokens = 8;
  request.eos_ids = {9};
  scheduler.add(request);
  const auto token = [](std::int32_t id) {
    SampledToken t;
    t.token = id;
    return t;
  };
  const Step prompt = scheduler.schedule(4);
  CHECK(prompt.window == 0);
  scheduler.commit(prompt, std::vector<SampledToken>{token(4), token(5)});

  const Step window = scheduler.schedule(4);
  CHECK(window.window == 4);
  CHECK(window.copies == std::vector<BlockCopy>{{1, 2}});
  REQUIRE(window.decode.size() == 2);
  CHECK(window.decode[0].token == 4);
  CHECK(window.decode[0].position == 3);
  CHECK(window.decode[0].remaining == 7);
  CHECK(window.decode[1].request.position == 4);
  CHECK(window.decode[0].block_table.size() == 4);
  CHECK(window.decode[1].block_table[1] == 1);
  CHECK(scheduler.blocks().used_blocks() == 7);
  // What a window cannot have drawn is refused, and nothing happens.
  using Drawn = std::vector<std::vector<SampledToken>>;
  const std::vector<SampledToken> whole(4, token(6));
  CHECK_THROWS_AS(scheduler.commit(window, whole), Error);
  CHECK_THROWS_AS(scheduler.commit_window(window, Drawn{whole}), Error);
  CHECK_THROWS_AS(scheduler.commit_window(window, Drawn{whole, {}}), Error);
  CHECK_THROWS_AS(scheduler.commit_window(window, Drawn{whole, {token(6), token(6)}}), Error);
  CHECK_THROWS_AS(scheduler.commit_window(window, Drawn{whole, {token(9), token(6)}}), Error);
  CHECK_THROWS_AS(scheduler.commit_window(window, Drawn{whole, std::vector(5, token(6))}), Error);
  scheduler.check();
  const auto events = scheduler.commit_window(window, Drawn{{token(6), token(9)}, whole});
  REQUIRE(events.size() == 4);
  CHECK(events[0].size() == 2);
  CHECK(events[1][0].finish == FinishReason::stop);
  CHECK(events[3].size() == 1);
  CHECK(events[3][0].index == 4);
  CHECK(scheduler.blocks().used_blocks() == 4);  // 3 + 4 keys of the other sample
  CHECK_THROWS_AS(scheduler.commit_window(window, Drawn{whole, whole}), Error);  // twice

  // Three tokens remain, which is the window; a sample that is ended meanwhile frees all of it.
  const Step last = scheduler.schedule(16);
  CHECK(last.window == 3);
  CHECK(scheduler.finish(last.targets[0].group, 1));
  CHECK(scheduler.commit_window(last, Drawn{std::vector(3, token(6))}).empty());
  CHECK_FALSE(scheduler.has_work());
  CHECK(scheduler.blocks().used_blocks() == 0);
  CHECK_THROWS_AS(scheduler.schedule(-1), Error);
}

}  // namespace
