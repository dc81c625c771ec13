#include <chrono>
#include <cmath>

#include "train/grpo/trainer.h"
#include "train/optim/lr_schedule.h"
#include "train/run/run_folder.h"

// What surrounds the Trainer's steps: the run's folder, the trackers, the time that --hours gives.
namespace qgrpo::train {

void Trainer::start_run() {
  const std::int64_t first_step = state_.global_step + 1;
  if (options_.run.hours > 0) {
    timed_.emplace(options_.run.hours, options_.run.max_steps);
    timed_->restore(state_.global_step, state_.elapsed_seconds, state_.schedule);
    options_.run.max_steps = timed_->max_steps();
  }
  RunRecord record;
  record.device = backend_->description();
  record.model_fingerprint = state_.base_fingerprint;
  record.data_fingerprint = state_.data_fingerprint;
  record.first_step = first_step;
  write_run_folder(options_.run.output_dir, options_, record);
  TrackerSettings trackers;
  trackers.report_to = options_.run.report_to;
  trackers.output_dir = options_.run.output_dir;
  trackers.python = options_.run.python;
  trackers.config = options_json(options_);
  trackers.first_step = first_step;
  trackers.say = [this](const std::string& line) { console_.line("  " + line); };
  trackers_ = std::make_unique<Trackers>(std::move(trackers));
  mark_ = std::chrono::steady_clock::now();
}

// At a step's end. What came between the steps (checkpoints, evaluations) counts with the next one.
void Trainer::count_time() {
  const auto now = std::chrono::steady_clock::now();
  const double seconds = std::chrono::duration<double>(now - mark_).count();
  mark_ = now;
  state_.elapsed_seconds += seconds;
  if (!timed_ || !timed_->step_done(seconds)) return;
  state_.schedule = timed_->decisions();
  if (options_.run.max_steps == timed_->max_steps()) return;
  options_.run.max_steps = timed_->max_steps();
  console_.line(
      fmt::format("  --hours {:.4g}: {} steps in all", options_.run.hours, options_.run.max_steps));
}

// Of step 0, 1, ... Under --hours the schedule's steps are parts of the way, fine enough that the
// rounding does not show.
double Trainer::learning_rate_of(std::int64_t step) const {
  const LrSchedule schedule = parse_lr_schedule(options_.optimizer.lr_scheduler_type);
  constexpr std::int64_t kParts = std::int64_t{1} << 40;
  const std::int64_t steps = timed_ ? kParts : options_.run.max_steps;
  const std::int64_t done =
      timed_ ? std::llround(timed_->progress(step) * static_cast<double>(kParts)) : step;
  return learning_rate(
      schedule, options_.optimizer.learning_rate, done + 1,
      resolve_warmup_steps(options_.optimizer.warmup_steps, options_.optimizer.warmup_ratio, steps),
      steps);
}

}  // namespace qgrpo::train
