#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/ops/ops.h"
#include "train/optim/lr_schedule.h"
#include "train/options/recorded.h"
#include "train/options/run.h"
#include "train/run/checkpoint.h"
#include "train/run/console.h"
#include "train/run/log_file.h"
#include "train/run/method.h"
#include "train/run/run_folder.h"
#include "train/run/run_lock.h"
#include "train/run/state.h"
#include "train/run/timed_schedule.h"
#include "train/run/trackers.h"

namespace qgrpo::train {

// What a run is made of, found out by loading it: a checkpoint of anything else is refused.
struct RunIdentity {
  std::string model;                  // the folder
  std::optional<std::uint64_t> base;  // fingerprint; none: every checkpoint brings its own
  std::string data;                   // the files, for messages
  std::uint64_t data_fingerprint = 0;
  std::string reference = "base";  // TrainerState::reference
  std::string device;              // Backend::description()
};

// The one loop of every training: start or resume, then step, log, evaluate, save, until the last
// step, the end of --hours, or stop_requested; always with a checkpoint at the end. A run that is
// resumed goes on as if it had never stopped.
//
//   TrainingRun run(...);       // which checkpoint to go on from, and whether it may be
//   run.open_output_dir();      // before the minutes that loading may take
//   run.begin(identity, m);     // state and logs as the checkpoint left them, or new ones
//   run.loop(m);
class TrainingRun {
 public:
  struct Settings {
    std::string trainer;  // "grpo" or "sft": whose checkpoints these are
    RunOptions options;   // resolved: max_steps > 0
    RateSchedule rate;
    RecordedOptions recorded;
  };
  // Reads the state that is to be resumed, of a folder that nobody else writes (it is locked from
  // here on); `console` must outlive the run. Throws Error naming the first option that differs from
  // the checkpoint's.
  TrainingRun(Settings settings, Console& console);

  // Makes the folder and locks it for this object's life; refuses one that cannot be written, that
  // another run writes, or that holds what is neither resumed nor to be overwritten. Throws Error.
  void open_output_dir();
  // Resumes, with Method::restore, or starts anew, with Method::begin. Throws Error where the
  // checkpoint is of another model, other data or another reference.
  void begin(const RunIdentity& identity, Method& method);
  // Runs to the end; returns the folder of the result. Where a step fails, what was learned before
  // it is saved, and the Error says where.
  std::string loop(Method& method);

  // Whether loop() ended by stop_requested.
  bool interrupted() const { return interrupted_; }

  TrainerState& state() { return state_; }
  const TrainerState& state() const { return state_; }
  // The checkpoint that the run goes on from; empty: a new run.
  const std::string& checkpoint() const { return checkpoint_; }
  // Steps in all. With --hours it changes on the way.
  std::int64_t max_steps() const { return timed_ ? timed_->max_steps() : options().max_steps; }
  // Of step 0, 1, ...
  double learning_rate(std::int64_t step) const;
  // Whether the console shows the step that was counted last: every logging_steps, the first, the
  // last.
  bool shows_step() const;

 private:
  using Clock = std::chrono::steady_clock;
  enum class Turn { done, best, interrupted };  // best: done, and worth a checkpoint

  const RunOptions& options() const { return settings_.options; }
  std::unique_ptr<RunLock> lock();
  void resume(const RunIdentity& identity, Method& method);
  void open_folder(const RunIdentity& identity);
  void open_logs();
  std::string run_steps(Method& method);
  void record_end(const std::string& status);
  Turn take_turn(Method& method);
  bool run_step(Method& method);
  bool save_due() const;
  std::string save(Method& method);
  void log(const std::string& line);
  void count_time();
  double seconds_left() const;

  Settings settings_;
  Console* console_;
  std::unique_ptr<RunLock> lock_;
  std::string checkpoint_;
  TrainerState state_;
  bool interrupted_ = false;
  std::unique_ptr<RunFolder> folder_;
  std::unique_ptr<LogFile> metrics_log_;
  std::unique_ptr<Trackers> trackers_;
  std::optional<TimedSchedule> timed_;  // with --hours
  Clock::time_point mark_;              // what state_.elapsed_seconds has counted up to
  std::vector<double> step_times_;      // s, of this start
};

}  // namespace qgrpo::train
