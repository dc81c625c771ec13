// What servers take of the generator: groups that are dropped, the likeliest tokens, text.

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "engine/completion_text.h"
#include "generator_cases.h"
#include "support/vectors.h"
#include "tokenizer/load.h"
#include "windowed_backend.h"

namespace {

using namespace qgrpo;
using namespace qgrpo::test;

TEST_CASE("generator: a cancelled group leaves nothing, and the others their bits") {
  for (const bool windows : {false, true}) {
    CAPTURE(windows);
    const auto cpu = cpu::make_cpu_backend(1);
    WindowedBackend windowed;
    Backend& backend = windows ? static_cast<Backend&>(windowed) : *cpu;
    Results expected;
    {
      Owned owned(backend, small_capacity(5));
      for (const GroupRequest& r : requests()) owned.generator->add(r);
      expected = owned.generator->run();
    }
    for (const GroupId victim : {GroupId{1}, GroupId{3}, GroupId{8}}) {
      for (const int when : {0, 1, 4, 9}) {
        Owned owned(backend, small_capacity(5));
        for (const GroupRequest& r : requests()) owned.generator->add(r);
        int steps = 0;
        bool seen_after = false;
        while (owned.generator->has_work()) {
          if (steps++ == when) owned.generator->cancel(victim);
          for (const TokenEvent& event : owned.generator->step())
            seen_after |= steps > when && event.group == victim;
          owned.generator->scheduler().check();
        }
        CHECK_FALSE(seen_after);
        CHECK(owned.generator->scheduler().blocks().used_blocks() == 0);
        Results others = expected;
        others.erase(victim);
        Results found;
        for (const auto& [group, unused] : others) found[group] = owned.generator->take(group);
        check_equal(found, others);
        CHECK(owned.generator->take(victim).empty());
      }
    }
  }
}

TEST_CASE("generator: the likeliest tokens, and the same draws with them") {
  for (const bool windows : {false, true}) {
    CAPTURE(windows);
    const auto cpu = cpu::make_cpu_backend(1);
    WindowedBackend windowed;
    Backend& backend = windows ? static_cast<Backend&>(windowed) : *cpu;
    Owned plain(backend, small_capacity(4));
    Owned owned(backend, small_capacity(4));
    std::map<GroupId, std::int32_t> wanted;
    std::int32_t n = 0;
    for (GroupRequest r : requests()) {
      plain.generator->add(r);
      r.top_logprobs = n++ % 2 == 0 ? n : 0;
      wanted[owned.generator->add(r)] = r.top_logprobs;
    }
    std::size_t told = 0;
    while (owned.generator->has_work()) {
      for (const TokenEvent& event : owned.generator->step()) {
        REQUIRE(event.top.size() == static_cast<std::size_t>(wanted.at(event.group)));
        if (event.top.empty()) continue;
        ++told;
        std::set<std::int32_t> ids;
        for (const TokenLogprob& t : event.top) {
          ids.insert(t.id);
          CHECK(t.logprob <= event.top.front().logprob);
          if (t.id == event.sampled.token) CHECK(t.logprob == event.sampled.logprob);
        }
        CHECK(ids.size() == event.top.size());
        CHECK(event.sampled.logprob <= event.top.front().logprob);
      }
    }
    CHECK(told > 20);
    Results found;
    const Results expected = plain.generator->run();
    for (const auto& [group, unused] : expected) found[group] = owned.generator->take(group);
    check_equal(found, expected);
  }
}

TEST_CASE("completion text: eos and stops are no part of it") {
  const auto tokenizer = tokenizer::load_tokenizer(vector_path("tokenizer/small"));
  const std::vector<std::int32_t> ids = tokenizer->encode("one two three");
  const auto text_of = [&](const std::vector<std::string>& stops, FinishReason last) {
    const StopWords words = StopWords::of(stops, *tokenizer);
    CompletionText text(*tokenizer, words);
    std::string all;
    for (std::size_t i = 0; i < ids.size() && !text.stopped(); ++i) {
      TokenEvent event;
      event.sampled.token = ids[i];
      if (i + 1 == ids.size()) event.finish = last;
      all += text.push(event);
    }
    return std::pair{all, text.stop_string()};
  };
  CHECK(text_of({}, FinishReason::length) ==
        std::pair<std::string, std::string>{"one two three", ""});
  CHECK(text_of({" two"}, FinishReason::length) ==
        std::pair<std::string, std::string>{"one", " two"});
  const std::string last = tokenizer->decode({&ids.back(), 1});
  CHECK(text_of({"absent"}, FinishReason::stop).first + last == "one two three");
  CHECK_THROWS_AS(StopWords::of({""}, *tokenizer), Error);
}

}  // namespace
