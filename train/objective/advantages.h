#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "model/io/enum_names.h"

namespace qgrpo::train {

// TRL's scale_rewards: what the centred rewards are divided by.
enum class ScaleRewards {
  group,  // the group's standard deviation
  batch,  // the standard deviation of all rewards of the step
  none    // nothing
};

inline constexpr auto kScaleRewardsNames = io::enum_names<ScaleRewards>(
    "scale_rewards",
    {{ScaleRewards::group, "group"}, {ScaleRewards::batch, "batch"}, {ScaleRewards::none, "none"}});

// What a reward that is NaN means: an error, or a completion that no function has scored.
enum class Unscored { refuse, leave_out };

struct Advantages {
  std::vector<float> values;  // one a completion
  double reward_mean = 0.0;   // over all completions
  // The unbiased deviation of all rewards, whatever scales the advantages: TRL's metric reward_std.
  double reward_std = 0.0;
  // The part of the completions whose scaling deviation (with `none`: their group's) is 0, at most
  // 1e-8: they carry no signal.
  double frac_reward_zero_std = 0.0;
};

// A_i = (r_i - mean of its group) / (std + 1e-4), std unbiased (n - 1; 0 for one value).
// rewards: group after group; group_sizes: completions of each group, summing to rewards.size().
// Computed in double and rounded to float32 once; a group of equal rewards gives exactly 0.
// With leave_out, a completion whose reward is NaN has the advantage 0, and no mean or deviation
// counts it (TRL's nanmean and nanstd); a group with less than two others has the deviation 0.
// Throws Error on sizes that do not fit and on a reward that is not finite (but for those).
Advantages compute_advantages(std::span<const double> rewards,
                              std::span<const std::size_t> group_sizes, ScaleRewards scale,
                              Unscored unscored = Unscored::refuse);

// The same for equal groups of `group_size`.
Advantages compute_advantages(std::span<const double> rewards, std::size_t group_size,
                              ScaleRewards scale, Unscored unscored = Unscored::refuse);

// The mean (0 for none), and the unbiased standard deviation (0 for fewer than two values). Exact
// for equal values. Both leave NaN out.
double mean_of(std::span<const double> all);
double unbiased_std(std::span<const double> all);

}  // namespace qgrpo::train
