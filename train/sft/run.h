#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "model/config.h"
#include "model/lora.h"
#include "model/model.h"
#include "model/parameters.h"
#include "train/run/speed_of_light.h"
#include "train/run/training_run.h"
#include "train/sft/inputs.h"
#include "train/sft/options.h"
#include "train/sft/plan.h"
#include "train/sft/trainer.h"

namespace qgrpo::train {

// One supervised run: `qgrpo sft`. The loop around its steps is the one of every training,
// train/run/training_run.h. OUTPUT_DIR gets
//   metrics.jsonl   a line a step:         step, epoch, loss, entropy, grad_norm, learning_rate,
//                                          num_tokens, step_time, tokens_per_second,
//                                          speed_of_light; skipped_steps where there are any
//                   a line an evaluation:  step, epoch, eval_loss, eval_entropy
//   config.toml, run.json   how the run was made
//   checkpoint-N/   the adapter as peft has it, or (full) a whole model folder with its tokenizer;
//                   optimizer.safetensors, trainer_state.json
class SftRun final : private Method {
 public:
  // Reads and checks everything, then allocates and loads. Throws Error before anything is written.
  // `find_peak`: what steps are compared with; empty: with nothing.
  SftRun(SftRunOptions options, Backend& backend, const FindPeak& find_peak = {});

  // Runs to the last step (or until stop_requested), which always ends in a checkpoint; its path is
  // returned.
  std::string run() { return run_.loop(*this); }
  // Whether run() ended by stop_requested.
  bool interrupted() const { return run_.interrupted(); }

  std::int64_t max_steps() const { return run_.max_steps(); }
  std::optional<double> eval_loss() const { return run_.state().eval_loss; }

 private:
  // Method.
  std::optional<StepOutcome> step(const StepContext& context) override;
  std::string log(const StepTimes& times) override;
  void show(const StepTimes& times) override;
  bool evaluation_due() const override;
  std::optional<Evaluated> evaluate() override;
  void evaluated() override;
  void save(const std::string& folder) override;
  std::uint64_t checkpoint_bytes() const override;
  std::string not_finite() const override;
  void restore(const std::string& folder) override;
  std::string finish(const std::string& checkpoint) override;

  void load(Backend& backend);
  void make_trainer(const model::LoraConfig& lora, const SftPlan& plan);
  void describe(const SftPlan& plan, const Backend& backend);
  SftOptions step_options() const;
  double epoch(std::int64_t steps) const;
  PhaseSpeed speed(double seconds) const;

  Console console_;
  const model::Config config_;
  const SftInputs inputs_;
  const SftRunOptions options_;  // resolved
  TrainingRun run_;

  std::unique_ptr<model::Model> model_;
  std::unique_ptr<model::LoraAdapter> adapter_;  // null with `full`
  std::unique_ptr<model::TrainableParameters> parameters_;
  std::unique_ptr<SftTrainer> trainer_;

  DevicePeak peak_;  // not known: steps are compared with nothing
  ModelWork work_;

  SftStep step_;              // the latest
  SftEvaluation evaluation_;  // the latest
};

}  // namespace qgrpo::train
