#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "engine/block_manager.h"
#include "engine/sequence.h"
#include "engine/step.h"

namespace qgrpo::engine {

struct SchedulerOptions {
  std::int32_t num_blocks = 0;      // KV blocks of the cache, all layers alike
  std::int32_t block_size = 16;     // tokens a block
  std::int32_t max_sequences = 64;  // completions running at once, >= 1
  std::int32_t max_tokens = 1024;   // rows a step, >= max_sequences: long prompts go in chunks
  std::int32_t max_context = 0;     // prompt + completion, the model's positions; 0 = no limit
};

// Continuous batching over a paged KV cache, as plain host data: it decides what to run, never runs
// it.
//
//   scheduler.add(request);
//   while (scheduler.has_work()) {
//     const Step step = scheduler.schedule();
//     ... run it ...
//     for (const TokenEvent& event : scheduler.commit(step, sampled)) ...
//   }
//
// First come, first served: the oldest waiting group starts as soon as its samples fit beside the
// running ones (max_sequences) and the most blocks that it can ever need (blocks_of_group) are not
// reserved by them; younger ones never overtake it. So a running sequence never lacks a block,
// nothing is ever preempted, and every group gets its turn. A sample that finishes gives its blocks
// and its reservation back at once. Every step decodes all running samples, then spends the rest of
// max_tokens on prompts, oldest first. With windows, prompts and decoding do not share a step: what
// was admitted is prefilled first, max_tokens rows a step, then all samples decode a window
// together; groups are admitted between steps.
//
// Deterministic: the same calls give the same steps. A group's rows, and so its tokens, do not
// depend on the other groups, only their packing does.
class Scheduler {
 public:
  // Throws Error for options out of range.
  explicit Scheduler(const SchedulerOptions& options);

  // Queues a group. Throws Error when the request is invalid (see validate) or could never run: the
  // message has the figures and what to change.
  GroupId add(GroupRequest request);

  bool has_work() const { return !waiting_.empty() || !running_.empty(); }
  // Whether a group, waiting or running, wants top_logprobs.
  bool wants_top_logprobs() const;

  // The next step; empty only without work. It must be committed before the next one. window 0:
  // prompts and decoding share steps. Else a step is rows of prompts, or a decode window of up to
  // that many tokens: of fewer where no sample may draw so many.
  Step schedule(std::int32_t window = 0);

  // Takes the tokens drawn for step.requests, in their order: appends them, finishes samples at eos
  // or length, frees their blocks. Returns what happened, one event a token, in the same order.
  // Requests whose sample was finished or cancelled since schedule() are passed over. Throws Error
  // when the step is not the one that schedule() returned last or the number of tokens is wrong.
  std::vector<TokenEvent> commit(const Step& step, std::span<const SampledToken> sampled);

  // The same for a decode window: drawn[i] are the tokens of step.decode[i], in order, ending with
  // the one that finishes it, which frees its blocks, or with the window. Returns the events of
  // every first token, of every second one, and so on.
  std::vector<std::vector<TokenEvent>> commit_window(
      const Step& step, std::span<const std::vector<SampledToken>> drawn);

  // Ends one sample now (a stop string was found in its text). False when it is not live.
  bool finish(GroupId id, std::int32_t sample);
  // Drops a group, waiting or running, and frees all it holds. False when there is none.
  bool cancel(GroupId id);
  // Drops everything, also a step that was not committed.
  void cancel_all();

  std::int64_t waiting_groups() const { return static_cast<std::int64_t>(waiting_.size()); }
  std::int64_t running_groups() const { return static_cast<std::int64_t>(running_.size()); }
  std::int64_t running_sequences() const;  // live samples of the running groups
  std::int64_t reserved_blocks() const;    // used_blocks() never exceeds it
  const BlockManager& blocks() const { return blocks_; }
  // Tokens of the prompts of groups with a prefix_key that were started, and those of them whose keys
  // and values were there already.
  std::int64_t prefix_tokens() const { return prefix_tokens_; }
  std::int64_t prefix_hits() const { return prefix_hits_; }
  const SchedulerOptions& options() const { return options_; }

  // Throws Error naming the first broken invariant of the scheduler or its blocks. For tests.
  void check() const;

 private:
  void admit();
  void adopt_prefix(GroupState& group);
  void decode(Step& step);
  void prefill(Step& step);
  void decode_window(Step& step, std::int32_t window);
  void append_rows(Step& step, const GroupState& group, BlockTable& table,
                   std::span<const std::int32_t> tokens);
  void check_last(const Step& step) const;
  void check_tokens(const Step& step, std::span<const SampledToken> sampled) const;
  void check_window(const Step& step, std::span<const std::vector<SampledToken>> drawn) const;
  void take(const Step::Target& target, const SampledToken& token, std::vector<TokenEvent>& events);
  void end_step();
  void end(SequenceState& sequence, FinishReason reason);
  void sweep();
  GroupState* find(GroupId id);
  std::int32_t place(const GroupState& group) const;
  std::int64_t need(const GroupState& group) const;

  SchedulerOptions options_;
  BlockManager blocks_;
  std::deque<GroupState> waiting_;
  std::vector<GroupState> running_;  // in the order of their ids
  GroupId next_group_ = 1;
  std::int64_t prefix_tokens_ = 0;
  std::int64_t prefix_hits_ = 0;
  std::uint64_t steps_ = 0;
  bool in_flight_ = false;
  std::int32_t ahead_ = 0;  // tokens that the step in flight adds to each decoding table, at most
};

}  // namespace qgrpo::engine
