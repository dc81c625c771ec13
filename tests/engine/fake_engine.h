#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "engine/scheduler.h"

// A model without a model: it drives a Scheduler and checks every step on the way.
namespace qgrpo::test {

using namespace engine;

using Ids = std::vector<std::int32_t>;

inline constexpr std::uint32_t kVocab = 9;

inline std::size_t at(std::int32_t i) {
  return static_cast<std::size_t>(i);
}

// The fake model: the next token is a hash of the whole visible context, the adapter and all keys
// of the draw.
inline std::int32_t next_token(const Ids& context, std::int32_t adapter, const SampleRequest& r) {
  std::uint64_t h = r.seed * 31 + r.step;
  for (const std::uint64_t v : {std::uint64_t{r.prompt}, std::uint64_t{r.sample},
                                std::uint64_t{r.position}, std::uint64_t(adapter + 1)}) {
    h = (h ^ v) * 0x9E3779B97F4A7C15u;
  }
  for (const std::int32_t id : context) {
    h = (h ^ static_cast<std::uint64_t>(id + 1)) * 0xD1B54A32D192ED03u;
    h ^= h >> 29;
  }
  return static_cast<std::int32_t>((h >> 33) % kVocab);
}

struct Completion {
  Ids tokens;
  FinishReason finish = FinishReason::none;
};

// The same model over a contiguous context, one sample at a time.
inline Completion contiguous(const GroupRequest& request, std::int32_t sample) {
  Completion out;
  Ids context = request.prompt;
  while (true) {
    SampleRequest r;
    r.seed = request.seed;
    r.step = request.step;
    r.prompt = request.prompt_key;
    r.sample = static_cast<std::uint32_t>(sample);
    r.position = static_cast<std::uint32_t>(context.size());
    const std::int32_t token = next_token(context, request.adapter, r);
    context.push_back(token);
    out.tokens.push_back(token);
    const bool eos = std::count(request.eos_ids.begin(), request.eos_ids.end(), token) > 0;
    if (eos && !request.ignore_eos) return out.finish = FinishReason::stop, out;
    if (out.tokens.size() == static_cast<std::size_t>(request.max_new_tokens)) {
      return out.finish = FinishReason::length, out;
    }
  }
}

// Runs a scheduler's steps on a cache that holds token ids, and checks each step on the way.
class FakeEngine {
 public:
  explicit FakeEngine(const SchedulerOptions& options)
      : scheduler(options), cache_(at(options.num_blocks * options.block_size), -1) {}

  GroupId add(const GroupRequest& request) {
    const GroupId id = scheduler.add(request);
    requests[id] = request;
    return id;
  }

  void step() {
    const Step step = scheduler.schedule(window);
    REQUIRE_FALSE(step.empty());  // no deadlock: while there is work, every step moves on
    scheduler.check();
    copy_blocks(step);
    peak_blocks = std::max(peak_blocks, scheduler.blocks().used_blocks());
    copies += step.copies.size();
    if (step.window > 0) {
      const auto drawn = run_window(step);
      if (before_commit) before_commit();
      for (const auto& events : scheduler.commit_window(step, drawn)) take(events);
      ++windows;
    } else {
      write_cache(step);
      const std::vector<SampledToken> sampled = run(step);
      if (before_commit) before_commit();
      take(scheduler.commit(step, sampled));
    }
    scheduler.check();
    ++steps;
  }

  void drain() {
    while (scheduler.has_work()) step();
    REQUIRE(scheduler.blocks().used_blocks() == 0);
    REQUIRE(scheduler.reserved_blocks() == 0);
    REQUIRE(scheduler.schedule().empty());
  }

  // A group's completions equal those over a contiguous context.
  void expect_complete(GroupId id) {
    const GroupRequest& request = requests.at(id);
    for (std::int32_t s = 0; s < request.samples; ++s) {
      const Completion expected = contiguous(request, s);
      const Completion& found = completions[{id, s}];
      REQUIRE(found.tokens == expected.tokens);
      REQUIRE(found.finish == expected.finish);
    }
  }

  Scheduler scheduler;
  std::map<GroupId, GroupRequest> requests;
  std::map<std::pair<GroupId, std::int32_t>, Completion> completions;
  std::function<void()> before_commit;
  std::int32_t window = 0;  // of Scheduler::schedule
  std::int32_t peak_blocks = 0;
  std::size_t copies = 0;
  std::size_t chunks = 0;  // of prompts that took several steps
  std::size_t steps = 0;
  std::size_t windows = 0;  // of them

 private:
  void take(const std::vector<TokenEvent>& events) {
    for (const TokenEvent& event : events) {
      Completion& out = completions[{event.group, event.sample}];
      REQUIRE(out.finish == FinishReason::none);
      REQUIRE(event.index == static_cast<std::int32_t>(out.tokens.size()));
      out.tokens.push_back(event.sampled.token);
      out.finish = event.finish;
    }
  }

  void copy_blocks(const Step& step) {
    const std::int32_t size = scheduler.options().block_size;
    std::set<std::int32_t> from, to;
    for (const auto& [a, b] : step.copies) {
      from.insert(a);
      REQUIRE(to.insert(b).second);
      std::copy_n(cache_.begin() + a * size, size, cache_.begin() + b * size);
    }
    for (const std::int32_t b : to) REQUIRE(from.count(b) == 0);
  }

  void write_cache(const Step& step) {
    std::set<std::int32_t> written;
    REQUIRE(step.slots.size() == step.tokens.size());
    for (std::size_t t = 0; t < step.tokens.size(); ++t) {
      REQUIRE(written.insert(step.slots[t]).second);
      cache_.at(at(step.slots[t])) = step.tokens[t];
    }
  }

  // A decode window: every sequence in turn.
  std::vector<std::vector<SampledToken>> run_window(const Step& step) {
    const std::int32_t size = scheduler.options().block_size;
    REQUIRE((step.tokens.empty() && step.sequences.empty() && step.requests.empty()));
    REQUIRE(step.window <= window);
    REQUIRE(step.targets.size() == step.decode.size());
    std::vector<std::vector<SampledToken>> out;
    std::set<std::int32_t> written, groups, adapters;
    std::int32_t longest = 0;
    for (std::size_t i = 0; i < step.decode.size(); ++i) {
      const DecodeSequence& s = step.decode[i];
      const Step::Target& target = step.targets[i];
      const GroupRequest& request = requests.at(target.group);
      const DecodeSequence* last = i > 0 ? &step.decode[i - 1] : nullptr;
      // A group's rows are neighbours, and those of an adapter.
      if (last == nullptr || last->prompt_group != s.prompt_group) {
        REQUIRE(groups.insert(s.prompt_group).second);
      }
      if (last == nullptr || last->adapter != s.adapter) REQUIRE(adapters.insert(s.adapter).second);
      REQUIRE(s.adapter == request.adapter);
      REQUIRE(s.prompt_length == static_cast<std::int32_t>(request.prompt.size()));
      Ids history = request.prompt;
      const Completion& done = completions[{target.group, target.sample}];
      history.insert(history.end(), done.tokens.begin(), done.tokens.end());
      REQUIRE(s.token == history.back());
      REQUIRE(s.position == static_cast<std::int32_t>(history.size()) - 1);
      REQUIRE(s.remaining ==
              request.max_new_tokens - static_cast<std::int32_t>(done.tokens.size()));
      longest = std::max(longest, s.remaining);
      const Ids expected_seen = request.sampling.repetition_penalty == 1.0f ? Ids{} : history;
      REQUIRE(Ids(s.request.seen.begin(), s.request.seen.end()) == expected_seen);
      const std::int32_t most = std::min(step.window, s.remaining);
      REQUIRE(s.block_table.size() == at((s.position + most + size - 1) / size));  // and no more

      out.emplace_back();
      for (std::int32_t t = 0; t < most; ++t) {
        const auto slot = [&](std::int32_t token) {
          return s.block_table[at(token / size)] * size + token % size;
        };
        REQUIRE(written.insert(slot(s.position + t)).second);
        cache_.at(at(slot(s.position + t))) = history.back();
        Ids context;
        for (std::int32_t c = 0; c <= s.position + t; ++c)
          context.push_back(cache_.at(at(slot(c))));
        REQUIRE(context == history);
        SampleRequest r = s.request;
        REQUIRE(r.sample == static_cast<std::uint32_t>(target.sample));
        REQUIRE(r.position + static_cast<std::uint32_t>(t) == history.size());
        r.position = static_cast<std::uint32_t>(history.size());
        SampledToken token;
        token.token = next_token(context, s.adapter, r);
        history.push_back(token.token);
        out.back().push_back(token);
        if (std::count(s.eos_ids.begin(), s.eos_ids.end(), token.token) > 0) break;
      }
    }
    REQUIRE(step.window == std::min(window, longest));
    return out;
  }

  std::vector<SampledToken> run(const Step& step) {
    const SchedulerOptions& options = scheduler.options();
    const auto rows = static_cast<std::int32_t>(step.tokens.size());
    REQUIRE(rows <= options.max_tokens);
    REQUIRE(step.positions.size() == step.tokens.size());
    std::vector<Ids> context(at(rows));  // what each row attends to
    std::vector<std::int32_t> adapter(at(rows));
    std::int32_t row = 0;
    for (const AdapterRun& run : step.adapter_runs) {
      REQUIRE(run.begin == row);
      for (; row < run.begin + run.length; ++row) adapter.at(at(row)) = run.adapter;
    }
    REQUIRE(row == rows);

    row = 0;
    bool prompts = false;
    std::set<std::int32_t> groups;
    std::int32_t last_group = -1;
    for (const PagedSequence& s : step.sequences) {
      REQUIRE(s.query_begin == row);
      REQUIRE(s.query_length > 0);
      row += s.query_length;
      if (s.prompt_group != last_group) {
        REQUIRE(groups.insert(s.prompt_group).second);  // a group's rows are neighbours
      }
      last_group = s.prompt_group;
      const std::int32_t first = s.context_length - s.query_length;
      const bool prefill = first < s.prompt_length;
      if (prefill) {
        REQUIRE(s.context_length <= s.prompt_length);
        if (s.query_length < s.prompt_length) ++chunks;
      } else {
        REQUIRE_FALSE(prompts);  // decode rows come first
        REQUIRE(s.query_length == 1);
      }
      prompts = prompts || prefill;
      Ids all;
      for (std::int32_t i = 0; i < s.context_length; ++i) {
        const std::int32_t block = s.block_table[at(i / options.block_size)];
        all.push_back(cache_.at(at(block * options.block_size + i % options.block_size)));
      }
      for (std::int32_t i = 0; i < s.query_length; ++i) {
        const std::size_t t = at(s.query_begin + i);
        REQUIRE(step.positions[t] == first + i);
        context[t].assign(all.begin(), all.begin() + first + i + 1);
      }
    }
    REQUIRE(row == rows);
    return sample(step, context, adapter);
  }

  std::vector<SampledToken> sample(const Step& step, const std::vector<Ids>& context,
                                   const std::vector<std::int32_t>& adapter) {
    std::vector<SampledToken> out;
    REQUIRE(std::is_sorted(step.head_rows.begin(), step.head_rows.end(), std::less_equal<>()));
    REQUIRE(step.targets.size() == step.requests.size());
    for (std::size_t i = 0; i < step.requests.size(); ++i) {
      const SampleRequest& r = step.requests[i];
      REQUIRE((i == 0 || step.requests[i - 1].row <= r.row));
      const std::size_t t = at(step.head_rows.at(at(r.row)));
      const Step::Target& target = step.targets[i];
      const GroupRequest& request = requests.at(target.group);
      // Paged == contiguous: what the row sees through the block table is its own history.
      Ids history = request.prompt;
      const Completion& done = completions[{target.group, target.sample}];
      history.insert(history.end(), done.tokens.begin(), done.tokens.end());
      REQUIRE(context[t] == history);
      REQUIRE(adapter[t] == request.adapter);
      if (request.sampling.repetition_penalty == 1.0f) {
        REQUIRE(r.seen.empty());
      } else {
        REQUIRE(Ids(r.seen.begin(), r.seen.end()) == history);
      }
      REQUIRE(r.params.temperature == request.sampling.temperature);
      REQUIRE(r.sample == static_cast<std::uint32_t>(target.sample));
      SampledToken token;
      token.token = next_token(context[t], adapter[t], r);
      out.push_back(token);
    }
    return out;
  }

  Ids cache_;  // (slots) the token whose key and value would lie there
};

}  // namespace qgrpo::test
