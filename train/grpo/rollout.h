#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/generator.h"
#include "tokenizer/tokenizer.h"
#include "train/data/group.h"
#include "train/reward/rewards.h"

namespace qgrpo::train {

struct RolloutSettings {
  std::int64_t num_generations = 8;
  std::int64_t max_completion_length = 512;
  SamplingParams sampling;
  std::vector<std::int32_t> eos_ids;
  std::int32_t adapter = 0;
  std::uint64_t seed = 0;
  std::uint32_t first_prompt = 0;  // the first group's key of the draws within the step
  // The objective's log-probs are at temperature 1 although sampling is not (the "then" form of the
  // loss): the stored log-probs are those, so that they can be compared with the training pass.
  bool logprobs_at_temperature_one = false;
};

// Samples num_generations completions for each group's prompt. Token draws are keyed by (seed,
// step, first_prompt + index of the group, sample, position). `on_tokens(done)` is called with the
// number of tokens so far; returning false stops: the function then returns false and the groups
// are not complete.
bool sample_groups(engine::Generator& generator, const tokenizer::Tokenizer& tokenizer,
                   std::span<Group> groups, std::uint32_t step, const RolloutSettings& settings,
                   const std::function<bool(std::int64_t)>& on_tokens = {});

}  // namespace qgrpo::train
