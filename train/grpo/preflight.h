#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "train/data/group.h"
#include "train/grpo/options.h"
#include "train/reward/rewards.h"

namespace qgrpo::train {

// What can be known before step 1: whether the rewards give anything to learn from. It describes
// groups that have been sampled and scored; who samples them is the Trainer's business.
class Preflight {
 public:
  explicit Preflight(std::span<const Reward> rewards);

  void add(std::span<const Group> groups);

  struct Row {
    std::string name;
    double weight = 1.0;
    std::int64_t scored = 0;  // completions that it does not skip
    double hit_rate = 0.0;    // part of them with a score above 0
    double mean = 0.0;        // of the scores, before the weight
    double variance = 0.0;    // unbiased, over all of them
    double least = 0.0;
    double most = 0.0;
  };
  // One a reward, then the weighted sum, "total".
  std::vector<Row> rows() const;

  std::int64_t groups() const { return groups_; }
  std::int64_t completions() const { return completions_; }
  double zero_variance_rate() const;  // part of the groups whose completions all have the same sum
  double truncation_rate() const;     // part of the completions cut off by the length limit

  // Where no signal can come, in plain words, one line each; none where all is well.
  std::vector<std::string> warnings(const TrainOptions& options) const;

  // The table and the warnings, for the console.
  std::string text(const TrainOptions& options) const;
  // The same for preflight.json.
  std::string json(const TrainOptions& options) const;

 private:
  Row describe(const std::string& name, double weight, std::span<const double> values) const;

  std::vector<Reward> rewards_;
  std::vector<std::vector<double>> values_;  // one row a reward, then the totals
  std::int64_t groups_ = 0;
  std::int64_t equal_groups_ = 0;
  std::int64_t completions_ = 0;
  std::int64_t truncated_ = 0;
};

}  // namespace qgrpo::train
