#include "train/options/reward.h"

#include "train/reward/rewards.h"

namespace qgrpo::train {

void describe(RewardOptions& o, OptionSet& set) {
  set.group("Rewards");
  set.list("rewards", o.rewards, "NAME[:WEIGHT]",
           "xmlcount, soft_format, strict_format, int, correctness (default: these five), "
           "numeric, math; FILE.py:FUNCTION[:WEIGHT] with TRL's signature; or cmd:'PROGRAM ARGS'"
           "[:WEIGHT] over JSON lines (docs/rewards.md). Repeatable, or with commas between")
      .also("reward")
      .test([&o] { parse_rewards(o.rewards); })
      .decides();
  set.number("reward_timeout", o.reward_timeout, "SECONDS",
             "For one call of a Python function or program")
      .above(0, 1e6, "a number of seconds > 0");
  set.whole("preflight", o.preflight, "N",
            "Before step 1, show what the rewards of at least N prompts are like; 0 = off")
      .within(0, 1 << 16, "prompts to describe before step 1; 0 is off");
}

}  // namespace qgrpo::train
