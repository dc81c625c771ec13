#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/options/option_set.h"

namespace qgrpo::train {

// How completions are rated.
struct RewardOptions {
  // train/reward/rewards.h, parse_rewards; empty: the notebook's five
  std::vector<std::string> rewards;
  double reward_timeout = 120.0;  // seconds that a reward of the user's may take for one call
  std::int64_t preflight = 4;     // prompts, at least, that are described before step 1; 0 = off
};

void describe(RewardOptions& options, OptionSet& set);

}  // namespace qgrpo::train
