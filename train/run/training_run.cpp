#include "train/run/training_run.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <new>
#include <span>

#include "model/io/paths.h"
#include "model/ops/error.h"
#include "train/run/checkpoint_history.h"
#include "train/run/output_dir.h"
#include "train/run/stop.h"

namespace qgrpo::train {
namespace {

// So many steps in a row without an update: the run ends.
constexpr std::int64_t kMostSkippedInRow = 10;

std::string describe_reference(const std::string& reference) {
  return reference == "base" ? "the base model" : fmt::format("the adapter {}", reference);
}

// Whether a checkpoint (empty: none) is one of the output folder itself.
bool goes_on_in(const std::string& checkpoint, const std::string& output_dir) {
  namespace fs = std::filesystem;
  std::error_code error;
  return !checkpoint.empty() &&
         fs::equivalent(fs::absolute(checkpoint, error).lexically_normal().parent_path(),
                        output_dir, error);
}

}  // namespace

TrainingRun::TrainingRun(Settings settings, Console& console)
    : settings_(std::move(settings)),
      console_(&console),
      // What is resumed must not change while it is read.
      lock_(!options().resume.empty() && io::is_folder(options().output_dir) ? lock() : nullptr),
      checkpoint_(find_resumed()) {
  state_.trainer = settings_.trainer;
  if (!checkpoint_.empty()) {
    require_whole(checkpoint_);
    state_ = load_trainer_state(checkpoint_, settings_.trainer);
    check_same_options(state_, settings_.recorded.decisive, checkpoint_);
    require(state_.global_step <= options().max_steps, "{}: is at step {}, beyond --max-steps {}",
            checkpoint_, state_.global_step, options().max_steps);
  }
  state_.options = settings_.recorded.decisive;
}

std::unique_ptr<RunLock> TrainingRun::lock() {
  auto lock =
      std::make_unique<RunLock>(options().output_dir, settings_.trainer == "sft" ? "sft" : "train");
  if (!lock->note().empty()) console_->line("  note: " + lock->note());
  return lock;
}

// Empty: a new run.
std::string TrainingRun::find_resumed() const {
  if (options().resume.empty()) return "";
  std::string found = find_checkpoint(options().resume, options().output_dir);
  if (!lock_ || !goes_on_in(found, options().output_dir)) return found;
  tidy_leftovers(options().output_dir);
  // It may have got its name back.
  const std::string named = found.substr(0, found.rfind('.'));
  return io::is_folder(found) ? found : named;
}

void TrainingRun::open_output_dir() {
  const std::string& folder = options().output_dir;
  make_output_dir(folder);
  if (!lock_) lock_ = lock();
  if (goes_on_in(checkpoint_, folder)) return check_writable_files(folder);
  check_new_run(folder, settings_.trainer, options().overwrite_output_dir);
}

void TrainingRun::begin(const RunIdentity& identity, Method& method) {
  const bool resumed = !checkpoint_.empty();
  if (resumed) {
    resume(identity, method);
  } else {
    state_.data_fingerprint = identity.data_fingerprint;
    state_.reference = identity.reference;
    if (options().overwrite_output_dir) clear_output_dir(options().output_dir, settings_.trainer);
    tidy_leftovers(options().output_dir);
  }
  if (identity.base) state_.base_fingerprint = *identity.base;
  reserve_ = std::make_unique<Reserve>(options().output_dir, method.checkpoint_bytes());
  if (resumed) leave_branch();
  // First of all files: by it the others are known as a run's.
  open_folder(identity);
  try {
    if (!resumed) method.begin();
    open_logs();
  } catch (const std::exception&) {
    record_end("failed");
    throw;
  }
}

void TrainingRun::resume(const RunIdentity& identity, Method& method) {
  require(!identity.base || state_.base_fingerprint == *identity.base,
          "{}: was trained on another base model than {}", checkpoint_, identity.model);
  require(state_.data_fingerprint == identity.data_fingerprint,
          "{}: was trained on other data than {}", checkpoint_, identity.data);
  require(state_.reference == identity.reference,
          "{}: its reference policy is {}, but that of this run is {}; resume with the "
          "--reference and the --adapter that the run was started with",
          checkpoint_, describe_reference(state_.reference),
          describe_reference(identity.reference));
  method.restore(checkpoint_);
  console_->line(fmt::format("resumed from {} (step {})", checkpoint_, state_.global_step));
}

// A checkpoint that is not the newest begins another branch.
void TrainingRun::leave_branch() {
  const std::string& folder = options().output_dir;
  if (!goes_on_in(checkpoint_, folder)) return;
  LogLengths logs = {{"metrics.jsonl", state_.metrics_offset}};
  if (settings_.trainer == "grpo")
    logs.emplace_back("completions.jsonl", state_.completions_offset);
  const std::string left = abandon_later(folder, state_.global_step, logs);
  if (!left.empty()) console_->line("  " + left);
  std::error_code error;
  if (std::filesystem::equivalent(checkpoint_, checkpoint_path(folder, state_.global_step), error))
    saved_step_ = state_.global_step;
}

void TrainingRun::open_folder(const RunIdentity& identity) {
  RunRecord record;
  record.trainer = settings_.trainer;
  record.device = identity.device;
  record.peak = identity.peak;
  record.model_fingerprint = state_.base_fingerprint;
  record.data_fingerprint = state_.data_fingerprint;
  record.first_step = state_.global_step + 1;
  record.resumed = !checkpoint_.empty();
  record.options_json = settings_.recorded.json;
  record.memory_json = identity.memory_json;
  folder_ = std::make_unique<RunFolder>(options(), std::move(record));
}

// The run's log and trackers, and what --hours has decided.
void TrainingRun::open_logs() {
  const std::string& folder = options().output_dir;
  const UnwrittenLogs lines =
      checkpoint_.empty() ? UnwrittenLogs() : load_unwritten_logs(checkpoint_);
  const bool goes_on = goes_on_in(checkpoint_, folder);
  const auto open = [&](const std::string& name, std::uint64_t offset) {
    const auto own = lines.find(name);
    const std::string note =
        logs_.open(folder, name, offset, own == lines.end() ? std::string() : own->second);
    if (goes_on && !note.empty()) console_->line("  note: " + note);
  };
  open("metrics.jsonl", state_.metrics_offset);
  if (settings_.trainer == "grpo") open("completions.jsonl", state_.completions_offset);
  if (options().hours > 0) {
    timed_.emplace(options().hours, options().max_steps);
    timed_->restore(state_.global_step, state_.elapsed_seconds, state_.schedule);
  }
  TrackerSettings trackers;
  trackers.report_to = options().report_to;
  trackers.output_dir = folder;
  trackers.python = options().python;
  trackers.config = settings_.recorded.json;
  trackers.first_step = state_.global_step + 1;
  trackers.say = [this](const std::string& line) { console_->line("  " + line); };
  trackers_ = std::make_unique<Trackers>(std::move(trackers));
}

std::string TrainingRun::loop(Method& method) {
  try {
    return run_steps(method);
  } catch (const std::exception&) {
    record_end("failed");
    throw;
  }
}

// The record of a run is no reason to lose the run.
void TrainingRun::record_end(const std::string& status) {
  try {
    folder_->end(status, state_.global_step);
  } catch (const Error& error) {
    console_->line(fmt::format("  note: {}", error.what()));
  }
}

std::string TrainingRun::run_steps(Method& method) {
  interrupted_ = false;
  first_step_ = state_.global_step;
  mark_ = Clock::now();
  std::string saved;
  try {
    take_turns(method);
    if (unsound_ && !interrupted_) throw Diverged("the loss of the last step is not finite");
    saved = save(method);
  } catch (const NotSaved&) {
    throw;
  } catch (const Diverged& error) {
    if (state_.optimizer_step == 0) throw;
    end_diverged(method, error.what());
  } catch (const std::exception& error) {
    // A step that fails has changed nothing: what was learned before it is kept.
    if (state_.global_step == first_step_) throw;
    const bool memory = dynamic_cast<const std::bad_alloc*>(&error) != nullptr;
    end_failed(method, memory ? "out of memory: lower the lengths or the number of completions"
                              : error.what());
  }
  if (!interrupted_) prune(method, true);
  record_end(interrupted_ ? "interrupted" : "finished");
  trackers_->finish();
  if (!interrupted_) {
    const std::string result = method.finish(saved);
    hand_over(result, true);
    return result;
  }
  console_->line(fmt::format("interrupted after step {}: {} holds everything; go on with: {}",
                             state_.global_step, saved, resume_command()));
  return saved;
}

void TrainingRun::take_turns(Method& method) {
  while (state_.global_step < max_steps() || method.evaluation_due()) {
    const Turn turn = take_turn(method);
    interrupted_ = turn == Turn::interrupted;
    if (interrupted_) return;
    if (!save_due() && turn != Turn::best) continue;
    const std::string saved = save(method);
    if (state_.global_step < max_steps()) console_->line("  saved " + saved);
  }
}

// A step, and the evaluation that is due behind it. A run that was interrupted in its evaluation
// has it to do first.
TrainingRun::Turn TrainingRun::take_turn(Method& method) {
  if (stop_requested.load()) return Turn::interrupted;
  if (!method.evaluation_due() && !run_step(method)) return Turn::interrupted;
  if (!method.evaluation_due()) return Turn::done;
  const auto evaluated = method.evaluate();
  if (!evaluated) return Turn::interrupted;
  log(evaluated->metrics);
  state_.last_eval_step = state_.global_step;
  method.evaluated();
  return evaluated->best ? Turn::best : Turn::done;
}

// False where it was interrupted: nothing has changed then.
bool TrainingRun::run_step(Method& method) {
  const auto start = Clock::now();
  const std::int64_t step = state_.global_step;
  const auto outcome = method.step({step, learning_rate(step)});
  if (!outcome) return false;
  const std::chrono::duration<double> seconds = Clock::now() - start;
  state_.global_step = step + 1;
  state_.num_tokens += outcome->tokens;
  ++(outcome->skipped ? state_.skipped_steps : state_.optimizer_step);
  step_times_.push_back(seconds.count());
  count_time();
  const StepTimes times{seconds.count(), seconds_left()};
  log(method.log(times));
  method.show(times);
  judge(*outcome, method);
  return true;
}

// What a step says about the weights that it began with.
void TrainingRun::judge(const StepOutcome& outcome, Method& method) {
  const std::int64_t before = state_.global_step - 1;
  skipped_in_row_ = outcome.skipped ? skipped_in_row_ + 1 : 0;
  unsound_ = outcome.unsound;
  if (!unsound_) {
    state_.sound_step = before;
    if (saved_step_ == before) prune(method, false);
  }
  if (unsound_ && before == 0) {
    throw Diverged(
        "step 1: the loss is not finite: the weights of the model or the adapter have diverged");
  }
  if (!outcome.broken.empty())
    throw Diverged(fmt::format("step {}: the update {}", state_.global_step, outcome.broken));
  if (skipped_in_row_ < kMostSkippedInRow) return;
  throw Diverged(fmt::format("step {}: for {} steps in a row the loss or a gradient was not finite",
                             state_.global_step, skipped_in_row_));
}

void TrainingRun::append(const std::string& log, const std::string& lines) {
  const std::string trouble = logs_.append(log, lines);
  if (!trouble.empty()) console_->line("  " + trouble);
  changed_ = true;
}

void TrainingRun::log(const std::string& line) {
  append("metrics.jsonl", line + "\n");
  trackers_->log(state_.global_step, line);
}

bool TrainingRun::save_due() const {
  if (unsound_) return false;
  if (state_.global_step == max_steps()) return true;
  return options().save_steps > 0 && state_.global_step % options().save_steps == 0;
}

// At a step's end. What came between the steps (checkpoints, evaluations) counts with the next one.
void TrainingRun::count_time() {
  const auto now = Clock::now();
  const double seconds = std::chrono::duration<double>(now - mark_).count();
  mark_ = now;
  state_.elapsed_seconds += seconds;
  const std::int64_t before = max_steps();
  if (!timed_ || !timed_->step_done(seconds)) return;
  state_.schedule = timed_->decisions();
  if (max_steps() == before) return;
  console_->line(fmt::format("  --hours {:.4g}: {} steps in all", options().hours, max_steps()));
}

// From the latest steps: the first ones are not typical.
double TrainingRun::seconds_left() const {
  const std::span<const double> recent =
      std::span(step_times_).last(std::min<std::size_t>(step_times_.size(), 20));
  double sum = 0.0;
  for (const double seconds : recent) sum += seconds;
  return sum / static_cast<double>(recent.size()) *
         static_cast<double>(max_steps() - state_.global_step);
}

double TrainingRun::learning_rate(std::int64_t step) const {
  if (!timed_) return settings_.rate.at(step, options().max_steps);
  // The schedule's steps are parts of the way, fine enough that the rounding does not show.
  constexpr std::int64_t kParts = std::int64_t{1} << 40;
  return settings_.rate.at(std::llround(timed_->progress(step) * static_cast<double>(kParts)),
                           kParts);
}

bool TrainingRun::shows_step() const {
  const std::int64_t step = state_.global_step;
  return step == 1 || step == max_steps() || step % options().logging_steps == 0;
}

}  // namespace qgrpo::train
