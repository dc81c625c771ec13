#include "train/optim/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "model/ops/error.h"

namespace qgrpo::train {

std::int64_t resolve_warmup_steps(std::int64_t warmup_steps, double warmup_ratio,
                                  std::int64_t max_steps) {
  require(warmup_steps >= 0, "warmup_steps is {}, expected at least 0", warmup_steps);
  require(warmup_ratio >= 0.0 && warmup_ratio <= 1.0, "warmup_ratio is {}, expected 0 to 1",
          warmup_ratio);
  if (warmup_steps > 0) return warmup_steps;
  return static_cast<std::int64_t>(std::ceil(static_cast<double>(max_steps) * warmup_ratio));
}

double learning_rate(LrSchedule schedule, double base_lr, std::int64_t step,
                     std::int64_t warmup_steps, std::int64_t max_steps) {
  require(step >= 1, "optimizer step {}: steps count from 1", step);
  if (schedule == LrSchedule::constant) return base_lr;
  const std::int64_t done = step - 1;
  const auto ratio = [](std::int64_t a, std::int64_t b) {
    return static_cast<double>(a) / static_cast<double>(std::max<std::int64_t>(1, b));
  };
  if (done < warmup_steps) return base_lr * ratio(done, warmup_steps);
  if (schedule == LrSchedule::linear) {
    return base_lr * std::max(0.0, ratio(max_steps - done, max_steps - warmup_steps));
  }
  const double progress = ratio(done - warmup_steps, max_steps - warmup_steps);
  return base_lr * std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * progress)));
}

}  // namespace qgrpo::train
