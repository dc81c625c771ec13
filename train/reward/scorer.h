#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "train/data/group.h"
#include "train/reward/host.h"
#include "train/reward/rewards.h"

namespace qgrpo::train {

// What a reward may know of the run (TRL's trainer_state).
struct RewardContext {
  std::int64_t global_step = 0;  // optimizer steps done
  std::int64_t max_steps = 0;
  double epoch = 0.0;
  // Asked while rewards of the user's are waited for; true gives up.
  std::function<bool()> cancelled;
};

// What scoring has to say beyond the scores.
struct RewardReport {
  std::map<std::string, double> metrics;  // by Python functions' log_metric
  std::int64_t unscored = 0;              // completions that every reward skips
  std::string unscored_example;           // the first one's question
};

// Scores completions by rewards of all kinds: the built-in ones here, all Python functions in one
// process, each command in its own. One call of each has all completions of all groups.
class RewardScorer {
 public:
  // Starts the processes; throws Error where one cannot be started or a file not be loaded.
  RewardScorer(std::vector<Reward> rewards, const RewardHostSettings& settings);

  const std::vector<Reward>& rewards() const { return rewards_; }
  std::vector<std::string> names() const;
  bool only_built_in() const { return hosts_.empty(); }

  // Sets reward_values, reward and extra of every completion. False where it was cancelled: they
  // are not set then. Throws Error (see RewardHost).
  bool score(std::span<Group> groups, const RewardContext& context, RewardReport* report = nullptr);

 private:
  struct Host {
    RewardHost process;
    std::vector<std::size_t> rewards;  // indices into rewards_, in the host's order
  };

  std::vector<Reward> rewards_;
  std::vector<std::unique_ptr<Host>> hosts_;
};

// The request of a call, without its braces and id (docs/rewards.md): "prompts", "completions",
// "completion_ids", "columns" with one value a completion, and "trainer_state".
std::string reward_request(std::span<const Group> groups, const RewardContext& context);

}  // namespace qgrpo::train
