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
#include "train/run/reserve.h"
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
  DevicePeak peak = {};            // of it, where it is known
  std::string memory_json = {};    // RunRecord::memory_json
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
  // it is saved, and the Error says where. Where the weights have diverged, they are no checkpoint-N,
  // and the Error names the last good one. Where a log or checkpoint cannot be written, the room that
  // was kept for it takes what was learned, and the Error says what came first.
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
  // Adds whole lines to completions.jsonl (a run of "grpo").
  void log_completions(const std::string& lines) { append("completions.jsonl", lines); }
  // Whether the console shows the step that was counted last: every logging_steps, the first, the
  // last.
  bool shows_step() const;

 private:
  // What was learned could not be saved, or only with the room that was kept for it: the run ends.
  class NotSaved : public Error {
   public:
    explicit NotSaved(const std::string& message) : Error(message) {}
  };
  using Clock = std::chrono::steady_clock;
  enum class Turn { done, best, interrupted };  // best: done, and worth a checkpoint

  const RunOptions& options() const { return settings_.options; }
  std::unique_ptr<RunLock> lock();
  std::string find_resumed() const;
  void resume(const RunIdentity& identity, Method& method);
  void leave_branch();
  void open_folder(const RunIdentity& identity);
  void open_logs();
  std::string run_steps(Method& method);
  void take_turns(Method& method);
  void record_end(const std::string& status);
  Turn take_turn(Method& method);
  bool run_step(Method& method);
  void judge(const StepOutcome& outcome, Method& method);
  bool save_due() const;
  void append(const std::string& log, const std::string& lines);
  void log(const std::string& line);
  void count_time();
  double seconds_left() const;

  // training_run_save.cpp: what is kept, however the run ends.
  std::string save(Method& method);
  void write(Method& method, const std::string& path);
  void prune(Method& method, bool at_end);
  void hand_over(const std::string& checkpoint, bool last);
  std::string resume_command() const;
  std::string last_good() const;
  [[noreturn]] void end_failed(Method& method, const std::string& reason);
  [[noreturn]] void end_diverged(Method& method, const std::string& reason);

  Settings settings_;
  Console* console_;
  std::unique_ptr<RunLock> lock_;
  std::string checkpoint_;
  TrainerState state_;
  bool interrupted_ = false;
  std::int64_t first_step_ = 0;      // done when this start began
  std::int64_t saved_step_ = -1;     // of the checkpoint that has the weights as they are, or had
  bool changed_ = false;             // something was logged since it was saved
  std::int64_t skipped_in_row_ = 0;  // the latest steps that updated nothing
  bool unsound_ = false;             // the latest step's loss was not finite
  std::unique_ptr<RunFolder> folder_;
  RunLogs logs_;
  std::unique_ptr<Trackers> trackers_;
  // The last: given back before a disk can fail the logs' closing.
  std::unique_ptr<Reserve> reserve_;
  std::optional<TimedSchedule> timed_;  // with --hours
  Clock::time_point mark_;              // what state_.elapsed_seconds has counted up to
  std::vector<double> step_times_;      // s, of this start
};

}  // namespace qgrpo::train
