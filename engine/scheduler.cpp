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
  group.sequences.resize(static_cast<std::size_t>(request.samples));
  group.request = std::move(request);
  waiting_.push_back(std::move(group));
  return waiting_.back().id;
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

// Moves waiting groups to the running ones, oldest first, while they fit.
void Scheduler::admit() {
  while (!waiting_.empty()) {
    GroupState& group = waiting_.front();
    if (running_sequences() + group.live() > options_.max_sequences) return;
    if (reserved_blocks() + need(group) > options_.num_blocks) return;
    for (SequenceState& sequence : group.sequences) {
      if (!sequence.live()) continue;
      sequence.tokens.reserve(group.request.prompt.size() +
                              static_cast<std::size_t>(group.request.max_new_tokens));
      sequence.tokens = group.request.prompt;
    }
    running_.push_back(std::move(group));
    waiting_.pop_front();
  }
}

Step Scheduler::schedule(std::int32_t window) {
  require(!in_flight_, "scheduler: step {} was not committed", steps_);
  require(window >= 0, "scheduler: a decode window of {} tokens, expected >= 0 (0 = none)", window);
  Step step;
  if (!has_work()) return step;
  admit();
  const bool prompts = std::any_of(running_.begin(), running_.end(),
                                   [](const GroupState& group) { return !group.prefilled; });
  if (window > 0 && !prompts) {
    decode_window(step, window);
  } else {
    for (GroupState& group : running_) {
      if (group.prefilled && window == 0) decode(step, group);
    }
    for (GroupState& group : running_) {
      if (!group.prefilled) prefill(step, group);
    }
    ahead_ = window == 0 ? 1 : 0;
  }
  step.number = ++steps_;
  in_flight_ = true;
  return step;
}

// Adds one row for each live sample of a group: its last token.
void Scheduler::decode(Step& step, GroupState& group) {
  for (std::size_t i = 0; i < group.sequences.size(); ++i) {
    SequenceState& sequence = group.sequences[i];
    if (!sequence.live()) continue;
    append_rows(step, group, sequence.table, std::span(sequence.tokens).last(1));
    step.head_rows.push_back(static_cast<std::int32_t>(step.tokens.size()) - 1);
    request_sample(step, group, static_cast<std::int32_t>(i));
  }
}

// Adds a window of every live sample; nothing but samples runs.
void Scheduler::decode_window(Step& step, std::int32_t window) {
  std::vector<GroupState*> groups;
  for (GroupState& group : running_) groups.push_back(&group);
  std::stable_sort(groups.begin(), groups.end(), [](const GroupState* a, const GroupState* b) {
    return a->request.adapter < b->request.adapter;
  });
  std::int32_t most = 0;
  for (const GroupState* group : groups) {
    for (const SequenceState& sequence : group->sequences) {
      if (sequence.live()) most = std::max(most, group->remaining(sequence));
    }
  }
  step.window = ahead_ = std::min(window, most);
  for (GroupState* group : groups) {
    for (std::size_t i = 0; i < group->sequences.size(); ++i) {
      SequenceState& sequence = group->sequences[i];
      if (!sequence.live()) continue;
      const std::int32_t count = std::min(step.window, group->remaining(sequence));
      std::vector<std::int32_t> slots;
      blocks_.append(sequence.table, count, slots, step.copies);
      add_decode_sequence(step, *group, static_cast<std::int32_t>(i));
    }
  }
}

void Scheduler::add_decode_sequence(Step& step, const GroupState& group, std::int32_t sample) {
  const SequenceState& from = group.sequences[static_cast<std::size_t>(sample)];
  DecodeSequence sequence;
  sequence.token = from.tokens.back();
  sequence.position = static_cast<std::int32_t>(from.tokens.size()) - 1;
  sequence.prompt_length = group.prompt_length();
  sequence.prompt_group = static_cast<std::int32_t>(&group - running_.data());
  sequence.adapter = group.request.adapter;
  sequence.remaining = group.remaining(from);
  if (!group.request.ignore_eos) {
    step.storage_.push_back(group.request.eos_ids);
    sequence.eos_ids = step.storage_.back();
  }
  step.storage_.emplace_back(from.table.blocks().begin(), from.table.blocks().end());
  sequence.block_table = step.storage_.back();
  sequence.request = sample_request(step, group, sample);
  step.decode.push_back(sequence);
  step.targets.push_back({group.id, sample});
}

// Adds as much of a prompt as the step has room for. Its last row predicts every sample's first
// token.
void Scheduler::prefill(Step& step, GroupState& group) {
  const std::int32_t done = group.prompt_table.length();
  const std::int32_t room = options_.max_tokens - static_cast<std::int32_t>(step.tokens.size());
  const std::int32_t count = std::min(room, group.prompt_length() - done);
  if (count == 0) return;
  append_rows(step, group, group.prompt_table,
              std::span(group.request.prompt)
                  .subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(count)));
  if (done + count < group.prompt_length()) return;
  step.head_rows.push_back(static_cast<std::int32_t>(step.tokens.size()) - 1);
  for (std::size_t i = 0; i < group.sequences.size(); ++i) {
    if (group.sequences[i].live()) request_sample(step, group, static_cast<std::int32_t>(i));
  }
}

// Packs tokens that follow table's, as one PagedSequence.
void Scheduler::append_rows(Step& step, const GroupState& group, BlockTable& table,
                            std::span<const std::int32_t> tokens) {
  const std::int32_t first = table.length();
  const auto count = static_cast<std::int32_t>(tokens.size());
  PagedSequence sequence;
  sequence.query_begin = static_cast<std::int32_t>(step.tokens.size());
  sequence.query_length = count;
  sequence.context_length = first + count;
  sequence.prompt_length = group.prompt_length();
  sequence.prompt_group = static_cast<std::int32_t>(&group - running_.data());

  blocks_.append(table, count, step.slots, step.copies);
  step.storage_.emplace_back(table.blocks().begin(), table.blocks().end());
  sequence.block_table = step.storage_.back();
  step.sequences.push_back(sequence);

  step.tokens.insert(step.tokens.end(), tokens.begin(), tokens.end());
  for (std::int32_t i = 0; i < count; ++i) step.positions.push_back(first + i);
  const std::int32_t adapter = group.request.adapter;
  if (!step.adapter_runs.empty() && step.adapter_runs.back().adapter == adapter) {
    step.adapter_runs.back().length += count;
  } else {
    step.adapter_runs.push_back({sequence.query_begin, count, adapter});
  }
}

// How the sample's next token is drawn.
SampleRequest Scheduler::sample_request(Step& step, const GroupState& group, std::int32_t sample) {
  const GroupRequest& from = group.request;
  const std::vector<std::int32_t>& tokens =
      group.sequences[static_cast<std::size_t>(sample)].tokens;
  SampleRequest request;
  request.params = from.sampling;
  request.seed = from.seed;
  request.step = from.step;
  request.prompt = from.prompt_key;
  request.sample = static_cast<std::uint32_t>(sample);
  request.position = static_cast<std::uint32_t>(tokens.size());
  if (from.sampling.repetition_penalty != 1.0f) {
    step.storage_.push_back(tokens);
    request.seen = step.storage_.back();
  }
  return request;
}

// Asks for the sample's next token, from the step's last head row.
void Scheduler::request_sample(Step& step, const GroupState& group, std::int32_t sample) {
  SampleRequest request = sample_request(step, group, sample);
  request.row = static_cast<std::int32_t>(step.head_rows.size()) - 1;
  step.requests.push_back(request);
  step.targets.push_back({group.id, sample});
}

void Scheduler::begin_commit(const Step& step) {
  require(in_flight_ && step.number == steps_,
          "scheduler: step {} is not the one to commit (the last is {}{})", step.number, steps_,
          in_flight_ ? "" : ", already committed");
}

// A live sample's next token, which may finish it.
TokenEvent Scheduler::append(GroupState& group, std::int32_t sample, const SampledToken& token) {
  SequenceState& sequence = group.sequences[static_cast<std::size_t>(sample)];
  TokenEvent event;
  event.group = group.id;
  event.sample = sample;
  event.index = static_cast<std::int32_t>(sequence.tokens.size()) - group.prompt_length();
  event.sampled = token;
  event.finish = finish_reason(group.request, event.index + 1, token.token);
  sequence.tokens.push_back(token.token);
  if (event.finish != FinishReason::none) end(sequence, event.finish);
  return event;
}

std::vector<TokenEvent> Scheduler::commit(const Step& step, std::span<const SampledToken> sampled) {
  begin_commit(step);
  require(step.window == 0, "scheduler: step {} is a decode window", step.number);
  require(sampled.size() == step.requests.size(), "scheduler: {} tokens for {} requests",
          sampled.size(), step.requests.size());
  for (const SampledToken& s : sampled) {
    require(s.token >= 0, "scheduler: sampled token {}, ids are not negative", s.token);
  }
  in_flight_ = false;
  ahead_ = 0;

  std::vector<TokenEvent> events;
  events.reserve(sampled.size());
  for (std::size_t i = 0; i < sampled.size(); ++i) {
    const Step::Target& target = step.targets[i];
    GroupState* group = find(target.group);
    if (group == nullptr) continue;
    SequenceState& sequence = group->sequences[static_cast<std::size_t>(target.sample)];
    if (!sequence.live()) continue;
    events.push_back(append(*group, target.sample, sampled[i]));
    if (sequence.live() && !group->prefilled) sequence.table = blocks_.fork(group->prompt_table);
  }
  for (GroupState& group : running_) {
    if (group.prefilled || group.prompt_table.length() < group.prompt_length()) continue;
    group.prefilled = true;
    blocks_.free(group.prompt_table);  // the samples hold its blocks now
  }
  sweep();
  return events;
}

std::vector<std::vector<TokenEvent>> Scheduler::commit_window(
    const Step& step, std::span<const std::vector<SampledToken>> drawn) {
  begin_commit(step);
  require(step.window > 0, "scheduler: step {} is no decode window", step.number);
  require(drawn.size() == step.decode.size(), "scheduler: the tokens of {} sequences for {}",
          drawn.size(), step.decode.size());
  for (std::size_t i = 0; i < drawn.size(); ++i) {
    const DecodeSequence& sequence = step.decode[i];
    const std::int32_t most = std::min(step.window, sequence.remaining);
    const auto count = static_cast<std::int32_t>(drawn[i].size());
    require(count >= 1 && count <= most, "scheduler: {} tokens for a window of {}", count, most);
    for (std::int32_t t = 0; t < count; ++t) {
      const std::int32_t id = drawn[i][static_cast<std::size_t>(t)].token;
      require(id >= 0, "scheduler: sampled token {}, ids are not negative", id);
      const bool eos =
          std::find(sequence.eos_ids.begin(), sequence.eos_ids.end(), id) != sequence.eos_ids.end();
      require((eos || t + 1 == most) == (t + 1 == count),
              "scheduler: a sequence drew {} tokens of a window of {}, the {}th is {}", count, most,
              t + 1, id);
    }
  }
  in_flight_ = false;
  ahead_ = 0;

  std::vector<std::vector<TokenEvent>> events(static_cast<std::size_t>(step.window));
  for (std::size_t t = 0; t < events.size(); ++t) {
    for (std::size_t i = 0; i < drawn.size(); ++i) {
      const Step::Target& target = step.targets[i];
      GroupState* group = t < drawn[i].size() ? find(target.group) : nullptr;
      if (group == nullptr) continue;
      if (!group->sequences[static_cast<std::size_t>(target.sample)].live()) continue;
      events[t].push_back(append(*group, target.sample, drawn[i][t]));
    }
  }
  sweep();
  std::erase_if(events, [](const auto& of_draw) { return of_draw.empty(); });
  return events;
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
  SequenceState& sequence = group->sequences[static_cast<std::size_t>(sample)];
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

void Scheduler::check() const {
  std::vector<const BlockTable*> tables;
  for (const GroupState& group : waiting_) {
    require(!group.prefilled && group.prompt_table.length() == 0,
            "scheduler: waiting group {} holds blocks", group.id);
  }
  for (std::size_t i = 0; i < running_.size(); ++i) {
    const GroupState& group = running_[i];
    require(i == 0 || running_[i - 1].id < group.id, "scheduler: group {} runs out of order",
            group.id);
    require(group.live() > 0, "scheduler: finished group {} still runs", group.id);
    tables.push_back(&group.prompt_table);
    require(!group.prefilled || group.prompt_table.length() == 0,
            "scheduler: group {} holds its prompt's blocks after the prefill", group.id);
    for (const SequenceState& sequence : group.sequences) {
      tables.push_back(&sequence.table);
      const bool decoding = group.prefilled && sequence.live();
      require(decoding || sequence.table.length() == 0,
              "scheduler: group {}: a sample that does not decode holds blocks", group.id);
      // The last token's key is written by the step that decodes it.
      const auto cached =
          static_cast<std::int64_t>(sequence.tokens.size()) - 1 +
          (decoding ? std::min(ahead_, group.remaining(sequence)) : std::int32_t{0});
      require(!decoding || sequence.table.length() == cached,
              "scheduler: group {}: {} of a sample's {} tokens are cached, expected {}", group.id,
              sequence.table.length(), sequence.tokens.size(), cached);
    }
  }
  blocks_.check(tables);
  require(running_sequences() <= options_.max_sequences,
          "scheduler: {} sequences run, the limit is {}", running_sequences(),
          options_.max_sequences);
  require(blocks_.used_blocks() <= reserved_blocks() && reserved_blocks() <= options_.num_blocks,
          "scheduler: {} blocks used, {} reserved, {} there: expected each at most the next",
          blocks_.used_blocks(), reserved_blocks(), options_.num_blocks);
}

}  // namespace qgrpo::engine
