#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "train/data/group.h"
#include "train/grpo/metrics.h"
#include "train/run/console.h"

namespace qgrpo::train {

// A finished step on a line of at most so many columns (0: as long as it is): the parts that matter least are left
// out, the reward functions first; metrics.jsonl has them all. seconds_left < 0: not known.
std::string step_text(const StepMetrics& metrics, double seconds_left, std::size_t columns);

// A finished step on the console, and from time to time the curve of `rewards`, the mean reward of
// every step so far. seconds_left < 0: not known.
void show_step(Console& console, const StepMetrics& metrics, const std::vector<double>& rewards,
               double seconds_left, std::int64_t logging_steps);

// The first completion of a group.
void show_sample(Console& console, std::int64_t step, const Group& group);

}  // namespace qgrpo::train
