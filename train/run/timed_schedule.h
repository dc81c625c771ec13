#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace qgrpo::train {

// --hours: how many steps fit into a time, and the learning rate's way to its end in just as many.
//
// The number of steps N is decided from measured step times, again and again: after steps 1, 2, 4,
// 8, .. and, towards the end, after half of the steps that are left:
//   next decision after step n + max(1, min(n, (N - n) / 2)).
// Each decision takes the mean time m of the latest steps (20 at most, saving included, the very
// first one left out as soon as there is another) and what is left of the time, less a reserve for
// the last checkpoint:
//   N = n + floor((hours * 3600 - elapsed - reserve) / m).
// The schedule's progress p goes from 0 to 1. A step under decision N, made after step s, adds
//   (1 - p_s) / (N - s)
// so a new N stretches or squeezes what is left of the schedule and never makes it jump; with one N
// throughout p is the usual n / N. The progress of a step follows from the list of decisions alone:
// with that list a run is repeated, or resumed, exactly.
class TimedSchedule {
 public:
  struct Decision {
    std::int64_t after = 0;  // steps done; the first decision counts from step 0
    std::int64_t max_steps = 0;
    bool operator==(const Decision&) const = default;
  };

  // most: an upper bound of the steps.
  TimedSchedule(double hours, std::int64_t most);

  // A step has been done, which took so many seconds since the end of the one before (or the
  // start). Returns whether the number of steps was decided anew.
  bool step_done(double seconds);
  // Time that no step accounts for: a checkpoint after the last one, an earlier part of the run.
  void add_elapsed(double seconds) { elapsed_ += seconds; }

  std::int64_t max_steps() const;
  // Of step n = 0, 1, .. (n steps are done before it): 0 <= p < 1, or 1 where there is none left.
  double progress(std::int64_t step) const;

  double elapsed() const { return elapsed_; }
  const std::vector<Decision>& decisions() const { return decisions_; }
  // Goes on as recorded: after `steps` steps, with these decisions and this time used up. Throws
  // Error where they contradict each other.
  void restore(std::int64_t steps, double elapsed, std::vector<Decision> decisions);

 private:
  std::int64_t next_decision() const;

  double seconds_;
  std::int64_t most_;
  std::int64_t steps_ = 0;
  double elapsed_ = 0.0;
  std::vector<double> times_;  // of the latest steps
  bool has_first_ = false;     // times_ begins with the very first step
  std::vector<Decision> decisions_;
};

}  // namespace qgrpo::train
