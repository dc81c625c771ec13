// What must hold of the tokens that a step is committed with, and of a scheduler between its calls.
#include <algorithm>

#include "engine/scheduler.h"
#include "model/ops/error.h"

namespace qgrpo::engine {

void Scheduler::check_last(const Step& step) const {
  require(in_flight_ && step.number == steps_,
          "scheduler: step {} is not the one to commit (the last is {}{})", step.number, steps_,
          in_flight_ ? "" : ", already committed");
}

void Scheduler::check_tokens(const Step& step, std::span<const SampledToken> sampled) const {
  check_last(step);
  require(step.window == 0, "scheduler: step {} is a decode window", step.number);
  require(sampled.size() == step.requests.size(), "scheduler: {} tokens for {} requests",
          sampled.size(), step.requests.size());
  for (const SampledToken& s : sampled) {
    require(s.token >= 0, "scheduler: sampled token {}, ids are not negative", s.token);
  }
}

void Scheduler::check_window(const Step& step,
                             std::span<const std::vector<SampledToken>> drawn) const {
  check_last(step);
  require(step.window > 0, "scheduler: step {} is no decode window", step.number);
  require(drawn.size() == step.decode.size(), "scheduler: the tokens of {} sequences for {}",
          drawn.size(), step.decode.size());
  for (std::size_t i = 0; i < drawn.size(); ++i) {
    const DecodeSequence& sequence = step.decode[i];
    const std::int32_t most = std::min(step.window, sequence.remaining);
    const auto count = static_cast<std::int32_t>(drawn[i].size());
    require(count >= 1 && count <= most, "scheduler: {} tokens for a window of {}", count, most);
    for (std::int32_t t = 0; t < count; ++t) {
      const std::int32_t id = drawn[i][t].token;
      require(id >= 0, "scheduler: sampled token {}, ids are not negative", id);
      const bool eos =
          std::find(sequence.eos_ids.begin(), sequence.eos_ids.end(), id) != sequence.eos_ids.end();
      require((eos || t + 1 == most) == (t + 1 == count),
              "scheduler: a sequence drew {} tokens of a window of {}, the {}th is {}", count, most,
              t + 1, id);
    }
  }
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
