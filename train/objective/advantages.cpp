#include "train/objective/advantages.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "model/ops/error.h"

namespace qgrpo::train {

namespace {

std::vector<double> without_nan(std::span<const double> values) {
  std::vector<double> out;
  for (const double v : values) {
    if (!std::isnan(v)) out.push_back(v);
  }
  return out;
}

}  // namespace

double mean_of(std::span<const double> all) {
  const std::vector<double> values = without_nan(all);
  if (values.empty()) return 0.0;
  // Deviations from the first value: the mean of equal values is that value, not a rounded one.
  double sum = 0.0;
  for (const double v : values) sum += v - values.front();
  return values.front() + sum / static_cast<double>(values.size());
}

double unbiased_std(std::span<const double> all) {
  const std::vector<double> values = without_nan(all);
  if (values.size() < 2) return 0.0;
  const double mean = mean_of(values);
  double squares = 0.0;
  for (const double v : values) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

Advantages compute_advantages(std::span<const double> rewards,
                              std::span<const std::size_t> group_sizes, ScaleRewards scale,
                              Unscored unscored) {
  const std::size_t total = std::accumulate(group_sizes.begin(), group_sizes.end(), std::size_t{0});
  require(total == rewards.size() && total > 0,
          "advantages: the groups hold {} completions, expected one reward each, found {}", total,
          rewards.size());
  for (const double r : rewards) {
    require(std::isfinite(r) || (std::isnan(r) && unscored == Unscored::leave_out),
            "advantages: a reward is {}, expected a finite number", r);
  }
  constexpr double epsilon = 1e-4;   // TRL's
  constexpr double zero_std = 1e-8;  // torch.isclose to 0
  const double batch_std = unbiased_std(rewards);

  Advantages out;
  out.values.reserve(total);
  out.reward_mean = mean_of(rewards);
  std::size_t zero_count = 0;
  std::size_t begin = 0;
  for (const std::size_t size : group_sizes) {
    const auto group = rewards.subspan(begin, size);
    begin += size;
    const double mean = mean_of(group);
    const double deviation = scale == ScaleRewards::batch ? batch_std : unbiased_std(group);
    for (const double r : group) {
      const double centred = std::isnan(r) ? 0.0 : r - mean;
      out.values.push_back(static_cast<float>(
          scale == ScaleRewards::none ? centred : centred / (deviation + epsilon)));
    }
    if (deviation <= zero_std) zero_count += size;
  }
  out.reward_std = batch_std;
  out.frac_reward_zero_std = static_cast<double>(zero_count) / static_cast<double>(total);
  return out;
}

Advantages compute_advantages(std::span<const double> rewards, std::size_t group_size,
                              ScaleRewards scale, Unscored unscored) {
  require(group_size > 0 && rewards.size() % group_size == 0,
          "advantages: {} rewards do not make whole groups of {}", rewards.size(), group_size);
  const std::vector<std::size_t> sizes(rewards.size() / group_size, group_size);
  return compute_advantages(rewards, sizes, scale, unscored);
}

}  // namespace qgrpo::train
