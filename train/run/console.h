#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "train/data/group.h"
#include "train/grpo/metrics.h"
#include "train/grpo/options.h"

namespace qgrpo::train {

// What a run shows: a live line on a terminal while a step runs, one plain line a step, the curve
// of the reward and a sample completion now and then. Goes to standard output; nothing else of the
// program writes there during a run.
class Console {
 public:
  explicit Console(const TrainOptions& options);

  void line(const std::string& text);
  // Replaces the live line (terminals only; at most ten times a second).
  void live(const std::string& text);
  // A finished step, and the mean reward of every step so far. seconds_left < 0: not known.
  void step(const StepMetrics& metrics, const std::vector<double>& rewards, double seconds_left);
  void sample(std::int64_t step, const Group& group);

 private:
  void clear_live();

  bool terminal_;
  std::int64_t logging_steps_;
  bool live_shown_ = false;
  std::chrono::steady_clock::time_point last_live_{};
};

// The curve of the values as block characters, `width` of them (means of neighbouring values),
// scaled to their range.
std::string sparkline(const std::vector<double>& values, std::size_t width);

// "2 h 05 min", "3 min 20 s", "42 s".
std::string format_duration(double seconds);

}  // namespace qgrpo::train
