#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "train/reward/host_answer.h"
#include "train/reward/host_process.h"
#include "train/reward/rewards.h"

namespace qgrpo::train {

struct RewardHostSettings {
  std::string python;      // the interpreter; empty: $QGRPO_PYTHON, else python3
  double timeout = 120.0;  // seconds for one call; loading Python files has at least 30
  std::function<void(const std::string&)> warn;  // shows one line; empty: to standard error
};

// Rewards of the user's in a process of their own, which lives as long as this object: all Python
// functions together, under the bundled host (train/reward/qgrpo_reward_host.py), or one command
// under the shell. docs/rewards.md has the protocol.
//
// A process that ends or does not answer in time is started again and asked once more, with a
// warning; at the second time in a row, and for everything else that is wrong with an answer, the
// call throws Error: the reward, what it did, and a Python traceback on the lines behind.
class RewardHost {
 public:
  // `rewards`: all python, or one command. Starts the process and loads the files.
  RewardHost(std::vector<Reward> rewards, RewardHostSettings settings);

  // request: the JSON object of a call without its braces; count: its completions. Nothing where
  // `cancelled` returned true.
  std::optional<HostAnswer> call(const std::string& request, std::size_t count,
                                 const std::function<bool()>& cancelled);

 private:
  void start();
  bool is_python() const { return rewards_.front().kind == RewardKind::python; }
  std::string label() const { return reward_label(rewards_); }
  HostAnswerReader answer_reader() const { return {rewards_, id_}; }

  std::vector<Reward> rewards_;
  RewardHostSettings settings_;
  std::unique_ptr<LineProcess> process_;
  std::int64_t id_ = 0;
};

}  // namespace qgrpo::train
