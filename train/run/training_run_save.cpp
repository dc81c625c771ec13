#include <filesystem>

#include "model/io/file.h"
#include "model/ops/error.h"
#include "model/ops/program.h"
#include "train/run/checkpoint_history.h"
#include "train/run/training_run.h"

// A TrainingRun's checkpoints: what is kept of what was learned, however the run goes on or ends.
namespace qgrpo::train {

// What goes on with the run, for the shell.
std::string TrainingRun::resume_command() const {
  if (!options().resume_command.empty()) return options().resume_command;
  return fmt::format("{} {} --resume {}", program_name,
                     settings_.trainer == "sft" ? "sft" : "train",
                     shell_word(options().output_dir));
}

// checkpoint-N of what was learned so far. The lines that it counts are on the disk before it has
// its name. Where something cannot be written, the room that was kept for it is used, lines that
// their log still does not take go into the checkpoint, and the run ends.
std::string TrainingRun::save(Method& method) {
  const std::string path = checkpoint_path(options().output_dir, state_.global_step);
  if (saved_step_ == state_.global_step && !changed_) return path;
  std::string cause = logs_.trouble();
  try {
    logs_.sync();
    write(method, path);
    prune(method, false);
    if (state_.global_step < max_steps()) hand_over(path, false);
    return path;
  } catch (const std::exception& error) {
    if (cause.empty()) cause = error.what();
  }
  reserve_->release();
  try {
    logs_.sync();
  } catch (const Error&) {  // its lines go into the checkpoint
  }
  try {
    write(method, path);
  } catch (const std::exception&) {
    const std::string last = last_good();
    throw NotSaved(fmt::format(
        "{}; what was learned up to step {} could not be saved: {}", cause, state_.global_step,
        last.empty()
            ? std::string("there is no checkpoint")
            : fmt::format("free some space and go on from {} with: {}", last, resume_command())));
  }
  throw NotSaved(
      fmt::format("{}; everything up to step {} is in {}, in the room that was kept for it: free "
                  "some space and "
                  "go on with: {}",
                  cause, state_.global_step, path, resume_command()));
}

// To whoever sends it on. What becomes of that is no reason to end the run.
void TrainingRun::hand_over(const std::string& checkpoint, bool last) {
  if (!options().after_save) return;
  const std::string told = options().after_save(checkpoint, last);
  if (!told.empty()) console_->line(told);
}

void TrainingRun::write(Method& method, const std::string& path) {
  state_.metrics_offset = logs_.size("metrics.jsonl");
  if (settings_.trainer == "grpo") state_.completions_offset = logs_.size("completions.jsonl");
  const UnwrittenLogs lines = logs_.unwritten();
  std::uint64_t bytes = 0;
  if (saved_step_ == state_.global_step) {
    // Its tensors are these: the state alone is new.
    bytes = save_trainer_state(path, state_, lines);
  } else {
    write_checkpoint(path, [&](const std::string& folder) {
      method.save(folder);
      bytes = save_trainer_state(folder, state_, lines);
    });
  }
  saved_step_ = state_.global_step;
  // Where this fails the checkpoint is there, and is tried anew as such.
  io::sync_path(options().output_dir);
  changed_ = false;
  reserve_->grow(bytes + bytes / 16 + (1 << 16));
}

// The newest checkpoint is one of the --save-total-limit. Until a step has found nothing wrong with
// it, the last one of which that is known stays too.
void TrainingRun::prune(Method& method, bool at_end) {
  const std::string& folder = options().output_dir;
  const std::int64_t sound = at_end ? -1 : newest_until(folder, state_.sound_step);
  try {
    prune_checkpoints(folder, options().save_total_limit, state_.best_global_step, sound);
  } catch (const Error& error) {
    console_->line(fmt::format("  note: {}", error.what()));
  }
  method.saved(sound);
}

// "CHECKPOINT (step N)"; empty: there is none.
std::string TrainingRun::last_good() const {
  const std::int64_t step = newest_until(options().output_dir, state_.global_step);
  if (step < 0) return "";
  return fmt::format("{} (step {})", checkpoint_path(options().output_dir, step), step);
}

void TrainingRun::end_failed(Method& method, const std::string& reason) {
  std::string saved;
  try {
    saved = save(method);
  } catch (const Diverged& error) {
    end_diverged(method, fmt::format("{}; {}", reason, error.what()));
  } catch (const NotSaved& error) {
    fail("{}; {}", reason, error.what());
  }
  fail("{} (everything up to step {} is in {})", reason, state_.global_step, saved);
}

// The weights are no checkpoint-N, and those of the steps since they were last known to be good are
// none any more. What was only begun from is left as it is.
void TrainingRun::end_diverged(Method& method, const std::string& reason) {
  const std::string& folder = options().output_dir;
  std::string aside;
  if (state_.global_step > first_step_) {
    try {
      aside = set_diverged_aside(folder, state_.sound_step);
      const bool kept = saved_step_ == state_.global_step && !changed_;
      if (!kept && method.not_finite().empty()) {
        const std::string path =
            free_path(fmt::format("{}/diverged-checkpoint-{}", folder, state_.global_step));
        saved_step_ = -1;
        logs_.sync();
        write(method, path);
        aside = path;
      }
    } catch (const Error& error) {
      console_->line(fmt::format("  note: {}", error.what()));
    }
  }
  const std::string kept = aside.empty() ? "" : "; what diverged is in " + aside;
  const std::int64_t good = newest_until(folder, state_.sound_step);
  if (good < 0)
    fail("{}; there is no good checkpoint before it{}; lower --learning-rate", reason, kept);
  const std::string path = checkpoint_path(folder, good);
  std::error_code error;
  const bool adapter = std::filesystem::exists(path + "/adapter_config.json", error);
  fail(
      "{}; the last good checkpoint is {}: begin a new run from it with --{} {} and a lower "
      "--learning-rate{}",
      reason, path, adapter ? "adapter" : "model", shell_word(path), kept);
}

}  // namespace qgrpo::train
