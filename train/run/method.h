#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace qgrpo::train {

// Of the step that is to be done.
struct StepContext {
  std::int64_t step = 0;  // 0, 1, ...: so many have been done before
  double learning_rate = 0.0;
};

// What a run counts of a step.
struct StepOutcome {
  std::int64_t tokens = 0;  // prompt and completion tokens seen for the first time
  bool skipped = false;     // the gradient was not finite: no update
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
  // Error, nothing has changed.
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
  // A checkpoint has been saved: what only it made superfluous may go.
  virtual void saved() {}
  // Goes on as save() left it; the run's state is that checkpoint's already.
  virtual void restore(const std::string& folder) = 0;
  // A new run begins in an empty output folder.
  virtual void begin() {}

  // The run's last words; returns the folder of its result, `checkpoint` (the last one) or a better.
  virtual std::string finish(const std::string& checkpoint) = 0;
};

}  // namespace qgrpo::train
