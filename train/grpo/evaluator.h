#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "train/eval/evaluate.h"
#include "train/grpo/inputs.h"
#include "train/grpo/options.h"
#include "train/grpo/policy.h"
#include "train/run/state.h"

namespace qgrpo::train {

// Evaluation during a run (--eval-every): greedy answers to questions that are not trained on, and
// which checkpoint was the best. It draws no random number, calls no reward of the user's (which may
// keep state), and works in the memory of the sampling: the run is bit for bit the one without it.
class Evaluator {
 public:
  // What an evaluation found.
  struct Result {
    Evaluation found;
    std::int64_t right = 0;
    std::int64_t total = 0;
    double low = 0.0, high = 0.0;  // 95 % interval of the accuracy (Wilson)
    double seconds = 0.0;
    bool best = false;  // the best so far
  };

  // Reads the questions: those of --eval-dataset, or those that --train-split has left out. The
  // arguments must outlive it. Throws Error.
  Evaluator(const TrainOptions& options, const GrpoInputs& inputs);

  // How many questions are longer than --max-prompt-length, and are cut.
  std::int64_t truncated() const { return truncated_; }
  // Of the questions and the measure; best_metric of another one cannot be compared with.
  std::uint64_t fingerprint() const { return fingerprint_; }
  bool due(const TrainerState& state, std::int64_t max_steps) const;
  // `progress` is told the questions that are answered; returning false interrupts: nothing then.
  std::optional<Result> evaluate(Policy& policy, const TrainerState& state,
                                 const std::function<bool(std::size_t)>& progress) const;
  std::size_t questions() const { return groups_.size(); }

 private:
  const TrainOptions* options_;
  const GrpoInputs* inputs_;
  std::vector<Group> groups_;  // prompts without completions
  std::int64_t truncated_ = 0;
  std::uint64_t fingerprint_ = 0;
};

// A line of metrics.jsonl.
std::string evaluation_json(std::int64_t step, const Evaluator::Result& result);
// A line of the console.
std::string evaluation_text(const Evaluator::Result& result);

}  // namespace qgrpo::train
