#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "model/ops/diverged.h"

namespace qgrpo::train {

// Of the step that is to be done.
struct StepContext {
  std::int64_t step = 0;  // 0, 1, ...: so many have been done before
  double learning_rate = 0.0;
};

// What a run counts of a step.
struct StepOutcome {
  std::int64_t tokens = 0;  // prompt and completion tokens seen for the first time
  bool skipped = false;     // the loss or the gradient was not finite: no update
  bool unsound = false;     // the loss was not finite: with the weights as they were before
  // Why the update's weights are beyond use, as "has left ..."; empty: they are not.
  std::string broken = {};
};

// What a run knows once the step is counted.
struct StepTimes {
  double seconds = 0.0;       // of the step
  double seconds_left = 0.0;  // an estimate, from the latest steps
};

// What is learned, and how: GRPO or supervised fine-tuning. A TrainingRun calls it; it reads and
// writes its own part of the run's TrainerState.
class Method {
 public:
  virtual ~Method() = default;

  // One optimizer step. Nothing where stop_requested has interrupted it; then, and where it throws
  // Error, nothing has changed. Throws Diverged where the weights cannot be learned from any more.
  virtual std::optional<StepOutcome> step(const StepContext& context) = 0;
  // Of the step just counted: its line of metrics.jsonl, and what else it logs.
  virtual std::string log(const StepTimes& times) = 0;
  // The same for the console.
  virtual void show(const StepTimes& times) = 0;

  // Whether an evaluation stands before the next step, or behind the last.
  virtual bool evaluation_due() const = 0;
  struct Evaluated {
    std::string metrics;  // a line of metrics.jsonl
    bool best = false;    // worth a checkpoint of its own
  };
  // Nothing where it was interrupted.
  virtual std::optional<Evaluated> evaluate() = 0;
  // It has been logged: counts it, and says on the console what came out.
  virtual void evaluated() = 0;

  // Writes into a checkpoint's folder what it consists of, but for the run's state.
  virtual void save(const std::string& folder) = 0;
  // About so many bytes.
  virtual std::uint64_t checkpoint_bytes() const { return 0; }
  // The first trained tensor with a value that is not finite; empty: there is none.
  virtual std::string not_finite() const { return ""; }
  // A checkpoint has been saved: what only it made superfluous may go, but not that of `last_sound`.
  virtual void saved([[maybe_unused]] std::int64_t last_sound) {}
  // Goes on as save() left it; the run's state is that checkpoint's already.
  virtual void restore(const std::string& folder) = 0;
  // A new run begins in an empty output folder.
  virtual void begin() {}

  // The run's last words; returns the folder of its result, `checkpoint` (the last one) or a better.
  virtual std::string finish(const std::string& checkpoint) = 0;
};

}  // namespace qgrpo::train
