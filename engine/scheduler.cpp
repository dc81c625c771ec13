#include "engine/scheduler.h"

#include <algorithm>
#include <utility>

#include "model/ops/error.h"

namespace qgrpo::engine {

Scheduler::Scheduler(const SchedulerOptions& options)
    : options_(options), blocks_(options.num_blocks, options.block_size) {
  require(options.max_sequences > 0, "scheduler: max_sequences {}, expected at least 1",
          options.max_sequences);
  require(options.max_tokens >= options.max_sequences,
          "scheduler: max_tokens {} is below max_sequences {}: every running sequence decodes one "
          "token a step",
          options.max_tokens, options.max_sequences);
  require(options.max_context >= 0, "scheduler: max_context {}, expected >= 0 (0 = no limit)",
          options.max_context);
}

std::int64_t Scheduler::need(const GroupState& group) const {
  return blocks_of_group(group.prompt_length(), group.request.max_new_tokens, group.live(),
                         options_.block_size);
}

GroupId Scheduler::add(GroupRequest request) {
  validate(request);
  const auto prompt = static_cast<std::int64_t>(request.prompt.size());
  const std::int64_t total = prompt + request.max_new_tokens;
  require(options_.max_context == 0 || total <= options_.max_context,
          "a prompt of {} tokens and {} new ones need {} positions, the limit is {}: shorten the "
          "prompt or lower the number of new tokens",
          prompt, request.max_new_tokens, total, options_.max_context);
  require(request.samples <= options_.max_sequences,
          "a group of {} completions, but at most {} sequences run at once: raise max_sequences or "
          "ask for fewer completions",
          request.samples, options_.max_sequences);
  const std::int64_t needed =
      blocks_of_group(prompt, request.max_new_tokens, request.samples, options_.block_size);
  require(needed <= options_.num_blocks,
          "a prompt of {} tokens with {} completions of up to {} tokens needs {} KV blocks of {} "
          "tokens, the cache has {}: give the cache more memory, or lower the number of new tokens "
          "or of completions",
          prompt, request.samples, request.max_new_tokens, needed, options_.block_size,
          options_.num_blocks);

  GroupState group;
  group.id = next_group_++;
  group.sequences.resize(request.samples);
  group.request = std::move(request);
  waiting_.push_back(std::move(group));
  return waiting_.back().id;
}

// Where the group is among the running ones.
std::int32_t Scheduler::place(const GroupState& group) const {
  return static_cast<std::int32_t>(&group - running_.data());
}

std::int64_t Scheduler::running_sequences() const {
  std::int64_t count = 0;
  for (const GroupState& group : running_) count += group.live();
  return count;
}

std::int64_t Scheduler::reserved_blocks() const {
  std::int64_t count = 0;
  for (const GroupState& group : running_) count += need(group);
  return count;
}

bool Scheduler::wants_top_logprobs() const {
  const auto wants = [](const GroupState& group) { return group.request.top_logprobs > 0; };
  return std::ranges::any_of(running_, wants) || std::ranges::any_of(waiting_, wants);
}

// Moves waiting groups to the running ones, oldest first, while they fit.
void Scheduler::admit() {
  while (!waiting_.empty()) {
    GroupState& group = waiting_.front();
    if (running_sequences() + group.live() > options_.max_sequences) return;
    if (reserved_blocks() + need(group) > options_.num_blocks) return;
    for (SequenceState& sequence : group.sequences) {
      if (!sequence.live()) continue;
      sequence.tokens.reserve(group.request.prompt.size() + group.request.max_new_tokens);
      sequence.tokens = group.request.prompt;
    }
    running_.push_back(std::move(group));
    waiting_.pop_front();
    adopt_prefix(running_.back());
  }
}

// The prompt's last token is always computed: its row draws the first token.
void Scheduler::adopt_prefix(GroupState& group) {
  const GroupRequest& request = group.request;
  if (request.prefix_key == 0) return;
  group.prompt_table =
      blocks_.adopt(request.prefix_key, std::span(request.prompt).first(request.prompt.size() - 1));
  prefix_tokens_ += group.prompt_length();
  prefix_hits_ += group.prompt_table.length();
}

Step Scheduler::schedule(std::int32_t window) {
  require(!in_flight_, "scheduler: step {} was not committed", steps_);
  require(window >= 0, "scheduler: a decode window of {} tokens, expected >= 0 (0 = none)", window);
  Step step;
  if (!has_work()) return step;
  admit();
  if (window == 0) {
    decode(step);
    prefill(step);
  } else if (std::ranges::all_of(running_, &GroupState::prefilled)) {
    decode_window(step, window);
  } else {
    prefill(step);
  }
  ahead_ = window == 0 ? 1 : step.window;
  step.number = ++steps_;
  in_flight_ = true;
  return step;
}

// One row for each live sample: its last token.
void Scheduler::decode(Step& step) {
  for (GroupState& group : running_) {
    if (!group.prefilled) continue;
    for (std::int32_t i = 0; i < group.request.samples; ++i) {
      SequenceState& sequence = group.sequences[i];
      if (!sequence.live()) continue;
      append_rows(step, group, sequence.table, std::span(sequence.tokens).last(1));
      step.add_head_row();
      step.add_request(group, i);
    }
  }
}

// As much of the prompts, oldest first, as the step has room for. A prompt's last row predicts every
// sample's first token.
void Scheduler::prefill(Step& step) {
  for (GroupState& group : running_) {
    if (group.prefilled) continue;
    const std::int32_t done = group.prompt_table.length();
    const std::int32_t room = options_.max_tokens - static_cast<std::int32_t>(step.tokens.size());
    const std::int32_t count = std::min(room, group.prompt_length() - done);
    if (count == 0) continue;
    append_rows(step, group, group.prompt_table,
                std::span(group.request.prompt).subspan(done, count));
    if (done + count < group.prompt_length()) continue;
    step.add_head_row();
    for (std::int32_t i = 0; i < group.request.samples; ++i) {
      if (group.sequences[i].live()) step.add_request(group, i);
    }
  }
}

// A window of every live sample, the groups with the same adapter side by side; nothing but samples
// runs.
void Scheduler::decode_window(Step& step, std::int32_t window) {
  std::vector<GroupState*> groups;
  for (GroupState& group : running_) groups.push_back(&group);
  std::ranges::stable_sort(groups, {}, [](const GroupState* g) { return g->request.adapter; });
  std::int32_t most = 0;
  for (const GroupState* group : groups) {
    for (const SequenceState& sequence : group->sequences) {
      if (sequence.live()) most = std::max(most, group->remaining(sequence));
    }
  }
  step.window = std::min(window, most);
  for (GroupState* group : groups) {
    for (std::int32_t i = 0; i < group->request.samples; ++i) {
      SequenceState& sequence = group->sequences[i];
      if (!sequence.live()) continue;
      std::vector<std::int32_t> slots;  // the backend finds them in the block table
      blocks_.append(sequence.table, std::min(step.window, group->remaining(sequence)), slots,
                     step.copies);
      step.add_decode(*group, place(*group), i);
    }
  }
}

// Rows of the tokens that follow table's.
void Scheduler::append_rows(Step& step, const GroupState& group, BlockTable& table,
                            std::span<const std::int32_t> tokens) {
  blocks_.append(table, static_cast<std::int32_t>(tokens.size()), step.slots, step.copies);
  step.add_rows(group, place(group), table, tokens);
}

std::vector<TokenEvent> Scheduler::commit(const Step& step, std::span<const SampledToken> sampled) {
  check_tokens(step, sampled);
  std::vector<TokenEvent> events;
  events.reserve(sampled.size());
  for (std::size_t i = 0; i < sampled.size(); ++i) take(step.targets[i], sampled[i], events);
  end_step();
  return events;
}

std::vector<std::vector<TokenEvent>> Scheduler::commit_window(
    const Step& step, std::span<const std::vector<SampledToken>> drawn) {
  check_window(step, drawn);
  std::vector<std::vector<TokenEvent>> events(step.window);
  for (std::size_t t = 0; t < events.size(); ++t) {
    for (std::size_t i = 0; i < drawn.size(); ++i) {
      if (t < drawn[i].size()) take(step.targets[i], drawn[i][t], events[t]);
    }
  }
  end_step();
  std::erase_if(events, [](const auto& of_draw) { return of_draw.empty(); });
  return events;
}

// A sample's next token, which may finish it. Nothing where it was finished or cancelled since the
// step was made.
void Scheduler::take(const Step::Target& target, const SampledToken& token,
                     std::vector<TokenEvent>& events) {
  GroupState* group = find(target.group);
  if (group == nullptr) return;
  SequenceState& sequence = group->sequences[target.sample];
  if (!sequence.live()) return;
  TokenEvent event;
  event.group = group->id;
  event.sample = target.sample;
  event.index = static_cast<std::int32_t>(sequence.tokens.size()) - group->prompt_length();
  event.sampled = token;
  event.finish = finish_reason(group->request, event.index + 1, token.token);
  sequence.tokens.push_back(token.token);
  if (event.finish != FinishReason::none) {
    end(sequence, event.finish);
  } else if (!group->prefilled) {
    sequence.table = blocks_.fork(group->prompt_table);
  }
  events.push_back(event);
}

// After the last token of a step.
void Scheduler::end_step() {
  in_flight_ = false;
  ahead_ = 0;
  for (GroupState& group : running_) {
    if (group.prefilled || group.prompt_table.length() < group.prompt_length()) continue;
    group.prefilled = true;
    const GroupRequest& request = group.request;
    if (request.prefix_key != 0)
      blocks_.remember(group.prompt_table, request.prefix_key, request.prompt);
    blocks_.free(group.prompt_table);  // the samples hold its blocks now
  }
  sweep();
}

void Scheduler::end(SequenceState& sequence, FinishReason reason) {
  sequence.finish = reason;
  blocks_.free(sequence.table);
}

// Removes groups without live samples.
void Scheduler::sweep() {
  for (GroupState& group : running_) {
    if (group.live() == 0) blocks_.free(group.prompt_table);
  }
  const auto finished = [](const GroupState& group) { return group.live() == 0; };
  std::erase_if(running_, finished);
  std::erase_if(waiting_, finished);
}

GroupState* Scheduler::find(GroupId id) {
  const auto same = [id](const GroupState& group) { return group.id == id; };
  const auto r = std::find_if(running_.begin(), running_.end(), same);
  if (r != running_.end()) return &*r;
  const auto w = std::find_if(waiting_.begin(), waiting_.end(), same);
  return w != waiting_.end() ? &*w : nullptr;
}

bool Scheduler::finish(GroupId id, std::int32_t sample) {
  GroupState* group = find(id);
  if (group == nullptr) return false;
  require(sample >= 0 && sample < group->request.samples,
          "scheduler: sample {} of a group of {} completions", sample, group->request.samples);
  SequenceState& sequence = group->sequences[sample];
  if (!sequence.live()) return false;
  end(sequence, FinishReason::stop);
  sweep();
  return true;
}

bool Scheduler::cancel(GroupId id) {
  GroupState* group = find(id);
  if (group == nullptr) return false;
  for (SequenceState& sequence : group->sequences) {
    if (sequence.live()) end(sequence, FinishReason::stop);
  }
  sweep();
  return true;
}

void Scheduler::cancel_all() {
  waiting_.clear();
  while (!running_.empty()) cancel(running_.back().id);
  in_flight_ = false;
  ahead_ = 0;
}

}  // namespace qgrpo::engine
