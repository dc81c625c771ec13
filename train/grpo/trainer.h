#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/config.h"
#include "train/grpo/evaluator.h"
#include "train/grpo/experience.h"
#include "train/grpo/inputs.h"
#include "train/grpo/metrics.h"
#include "train/grpo/options.h"
#include "train/grpo/plan.h"
#include "train/grpo/policy.h"
#include "train/objective/policy_gradient.h"
#include "train/optim/update.h"
#include "train/run/training_run.h"

namespace qgrpo::train {

// One GRPO run: `qgrpo train` on a model. A step is a page of its own, train/grpo/step.cpp; the loop
// around it is the one of every training, train/run/training_run.h.
class GrpoTrainer final : private Method {
 public:
  // Reads and checks everything, plans, prints the plan, allocates, loads. Throws Error before
  // anything is written. `find_peak`: what steps are compared with; empty: with nothing.
  GrpoTrainer(TrainOptions options, Backend& backend, const FindPeak& find_peak = {});

  // Runs to the last step (or until stop_requested), which always ends in a checkpoint; the path of
  // the result is returned.
  std::string run() { return run_.loop(*this); }
  // Whether run() ended by stop_requested.
  bool interrupted() const { return run_.interrupted(); }

  const std::vector<double>& rewards() const { return run_.state().rewards; }
  model::Model& model() { return policy_->model(); }
  const MemoryPlan& plan() const { return plan_; }

 private:
  // What a step leaves for its log.
  struct StepRecord {
    bool fresh = false;  // it began with sampling, not with the groups at hand
    double learning_rate = 0.0;
    double sampling_seconds = 0.0;  // with rewards
    PhaseSpeed sampling;
    PhaseSpeed training;
    UpdateStatistics gradient;
    ParameterUpdate update;
  };

  // Method.
  std::optional<StepOutcome> step(const StepContext& context) override;
  std::string log(const StepTimes& times) override;
  void show(const StepTimes& times) override;
  bool evaluation_due() const override;
  std::optional<Evaluated> evaluate() override;
  void evaluated() override;
  void save(const std::string& folder) override;
  void saved(std::int64_t last_sound) override;
  std::uint64_t checkpoint_bytes() const override;
  std::string not_finite() const override;
  void restore(const std::string& folder) override;
  void begin() override;
  std::string finish(const std::string& checkpoint) override;

  // The parts of a step, in their order. False where stop_requested interrupts them.
  bool sample(std::span<Group> groups, std::int64_t step, std::int64_t first_prompt,
              PhaseSpeed& speed);
  bool score(std::span<Group> groups, std::string_view phase);
  bool preflight(std::span<const Group> groups);
  void check(const StepRecord& record, std::int64_t step) const;
  void note_difference(const StepRecord& record, std::int64_t step);
  PhaseSpeed training_speed(double seconds) const;
  StepOutcome count(const StepRecord& record);

  // Whether step 0, 1, ... begins with sampling.
  bool begins_round(std::int64_t step) const {
    return step % options_.objective.num_iterations == 0;
  }
  void load(Backend& backend);
  void find_speed_of_light(const FindPeak& find_peak);
  void check_room(const Backend& backend) const;
  void find_best(const std::string& folder);
  void forget_best(const std::string& reason);

  Console console_;
  const model::Config config_;
  const GrpoInputs inputs_;
  const TrainOptions options_;  // resolved
  GroupSource source_;
  Evaluator evaluator_;
  TrainingRun run_;
  MemoryPlan plan_;
  std::optional<Policy> policy_;
  DevicePeak peak_;  // not known: steps are compared with nothing
  ModelWork work_;

  Experience experience_;                         // what the steps learn from
  std::map<std::string, double> reward_metrics_;  // of reward functions, in the latest round
  StepRecord record_;                             // of the latest step
  StepMetrics metrics_;                           // of the latest step
  std::optional<Evaluator::Result> evaluation_;   // the latest
  std::int64_t superseded_best_ = 0;              // step of the checkpoint that was the best before
  std::int64_t truncated_prompts_shown_ = 0;
  bool difference_noted_ = false;
  bool names_told_ = false;  // of metrics of rewards that a step has itself
};

}  // namespace qgrpo::train
