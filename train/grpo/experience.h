#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "train/data/group.h"
#include "train/grpo/inputs.h"
#include "train/grpo/options.h"
#include "train/objective/policy_gradient.h"
#include "train/reward/rewards.h"

namespace qgrpo::train {

// What one round of sampling gives: groups with rewards and advantages, from which num_iterations
// optimizer steps are taken.
struct Experience {
  std::vector<Group> groups;
  double frac_reward_zero_std = 0.0;   // Advantages::frac_reward_zero_std of these groups
  std::uint64_t data_position = 0;     // groups taken from the data stream, these included
  std::int64_t discarded_groups = 0;   // sampled, without signal, replaced (dynamic sampling)
  std::int64_t prompts_truncated = 0;  // of these groups and of those discarded
  std::int64_t completion_tokens = 0;  // sampled, those discarded included
};

// A checkpoint between two steps on the same experience keeps it, experience.json: ids, texts,
// rewards, advantages and old log-probs, exactly.
std::string experience_json(const Experience& experience);
// Throws Error naming the file and the key, also where arrays that belong together have other lengths
// than they should, and where an id is outside the vocabulary.
Experience read_experience(const std::string& path, std::int64_t vocab_size);

// Throws Error where a completion's reward is so large that its advantage is not a number, naming the
// reward function (none in a replay) and what it gave.
void check_rewards(std::span<const Group> groups, std::span<const Reward> rewards);

// Whether a group's rewards differ, so that its advantages are not all 0.
bool rewards_differ(const Group& group);

// Gathers what a round of sampling gives: as many groups as an optimizer step takes. With dynamic
// sampling (DAPO), groups whose rewards are all equal wait aside while further prompts are sampled,
// for at most max_resample_batches rounds more, and make up the number where these run out.
//
//   while (round.missing() > 0) { groups = round.take_prompts(source); ...; round.add(groups); }
class ExperienceBuilder {
 public:
  // data_position: where the data stream goes on.
  ExperienceBuilder(const TrainOptions& options, std::uint64_t data_position);

  // Groups that the next part of the round is to bring; 0: it is complete.
  std::int64_t missing() const;
  // Groups that were added; the next ones' first key of random draws.
  std::int64_t sampled() const { return sampled_; }
  // The next missing() groups of the data stream.
  std::vector<Group> take_prompts(GroupSource& source);
  void add(std::vector<Group> groups);
  Experience finish();

 private:
  std::int64_t wanted_;
  bool dynamic_sampling_;
  std::int64_t rounds_left_;
  Experience experience_;
  std::vector<Group> aside_;  // without signal
  std::int64_t sampled_ = 0;
};

// From the rewards of each group's completions: their advantages (train/objective/advantages.h),
// and which of them the loss counts.
void set_advantages(Experience& experience, const ObjectiveOptions& options);

// The log-probs of the policy that sampled, by the training pass: what later iterations take their
// ratios to.
void keep_old_logprobs(Experience& experience, const TokenLogprobs& logprobs);

}  // namespace qgrpo::train
