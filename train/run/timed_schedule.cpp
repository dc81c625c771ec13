#include "train/run/timed_schedule.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "model/ops/error.h"

namespace qgrpo::train {
namespace {

constexpr std::size_t kLatest = 20;
constexpr double kReserve = 0.01;      // of the time, for the last checkpoint
constexpr double kMostReserve = 60.0;  // seconds

}  // namespace

TimedSchedule::TimedSchedule(double hours, std::int64_t most)
    : seconds_(hours * 3600.0), most_(most) {}

std::int64_t TimedSchedule::max_steps() const {
  return decisions_.empty() ? most_ : decisions_.back().max_steps;
}

std::int64_t TimedSchedule::next_decision() const {
  if (decisions_.empty()) return 1;
  const std::int64_t n = decisions_.size() == 1 ? 1 : decisions_.back().after;
  return n + std::max<std::int64_t>(1, std::min(n, (decisions_.back().max_steps - n) / 2));
}

bool TimedSchedule::step_done(double seconds) {
  const std::int64_t due = next_decision();
  ++steps_;
  elapsed_ += seconds;
  if (steps_ == 1) has_first_ = true;
  times_.push_back(seconds);
  if (times_.size() > kLatest || (has_first_ && times_.size() == 2)) {
    times_.erase(times_.begin());
    has_first_ = false;
  }
  // A resumed run has no times of its own yet, but at the next step it has.
  if (steps_ < due) return false;
  const double mean = std::max(1e-9, std::accumulate(times_.begin(), times_.end(), 0.0) /
                                         static_cast<double>(times_.size()));
  const double left = seconds_ - elapsed_ - std::min(kMostReserve, kReserve * seconds_);
  const double more = std::clamp(std::floor(left / mean), 0.0, static_cast<double>(most_));
  const std::int64_t total = std::min(most_, steps_ + static_cast<std::int64_t>(more));
  decisions_.push_back({decisions_.empty() ? 0 : steps_, std::max(total, steps_)});
  return true;
}

double TimedSchedule::progress(std::int64_t step) const {
  double p = 0.0;
  for (std::size_t i = 0; i < decisions_.size(); ++i) {
    const Decision& d = decisions_[i];
    if (step <= d.after) break;
    const std::int64_t until =
        i + 1 < decisions_.size() ? std::min(step, decisions_[i + 1].after) : step;
    if (d.max_steps <= d.after || until >= d.max_steps) {
      p = 1.0;
    } else {
      p += (1.0 - p) *
           (static_cast<double>(until - d.after) / static_cast<double>(d.max_steps - d.after));
    }
  }
  return p;
}

void TimedSchedule::restore(std::int64_t steps, double elapsed, std::vector<Decision> decisions) {
  require(decisions.empty() == (steps == 0) && elapsed >= 0.0,
          "the record of --hours has {} decisions after {} steps", decisions.size(), steps);
  for (std::size_t i = 0; i < decisions.size(); ++i) {
    const Decision& d = decisions[i];
    require(d.after <= steps && d.max_steps >= d.after &&
                (i == 0 ? d.after == 0 : d.after > decisions[i - 1].after),
            "the record of --hours contradicts itself: {} steps decided after step {}, of {} done",
            d.max_steps, d.after, steps);
  }
  steps_ = steps;
  elapsed_ = elapsed;
  times_.clear();
  has_first_ = false;
  decisions_ = std::move(decisions);
}

}  // namespace qgrpo::train
