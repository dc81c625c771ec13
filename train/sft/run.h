#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/lora.h"
#include "model/model.h"
#include "train/grpo/metrics.h"
#include "train/run/console.h"
#include "train/sft/data.h"
#include "train/sft/options.h"
#include "train/sft/trainer.h"

namespace qgrpo::train {

// What a checkpoint of `qgrpo sft` keeps beside the tensors. The order of the examples is a
// function of (seed, epoch), so the step is the whole position in the data.
struct SftState {
  std::int64_t global_step = 0;
  std::int64_t num_tokens = 0;  // prompt and completion tokens seen
  std::uint64_t base_fingerprint = 0;
  std::uint64_t data_fingerprint = 0;  // of all dataset files
  std::uint64_t metrics_offset = 0;    // bytes of metrics.jsonl
  std::optional<double> eval_loss;     // the latest
  std::map<std::string, std::string> options;
};

// Reads trainer_state.json of a checkpoint of `qgrpo sft`. Throws Error on anything else.
SftState load_sft_state(const std::string& folder);

// One supervised run. OUTPUT_DIR gets
//   metrics.jsonl   a line a step: step, epoch, loss, entropy, grad_norm, learning_rate,
//   num_tokens,
//                   step_time; and a line an evaluation: step, epoch, eval_loss, eval_entropy
//   checkpoint-N/   the adapter as peft has it, or (full) a whole model folder with its tokenizer;
//                   optimizer.safetensors, trainer_state.json
// A run that is resumed goes on bit for bit as the uninterrupted one.
class SftRun {
 public:
  // Reads and checks everything, then allocates and loads. Throws Error before anything is written.
  SftRun(SftRunOptions options, Backend& backend);
  ~SftRun();

  // Runs to the last step (or until stop_requested), which always ends in a checkpoint; its path is
  // returned.
  std::string run();

  std::int64_t max_steps() const { return options_.run.max_steps; }
  std::optional<double> eval_loss() const { return state_.eval_loss; }

 private:
  void load_data();
  void plan(const model::LoraConfig& lora);
  void load_model();
  void resume();
  SftOptions step_options() const;
  std::int64_t steps_per_epoch() const;
  double epoch(std::int64_t steps) const;
  std::vector<SftExample> examples_of(std::int64_t step) const;
  void run_step();
  bool evaluation_due() const;
  void evaluate();
  std::string save();

  SftRunOptions options_;
  Backend* backend_;
  Console console_;
  SftState state_;
  std::string resume_folder_;  // empty: a new run

  std::unique_ptr<tokenizer::Tokenizer> tokenizer_;
  std::optional<tokenizer::ChatTemplate> chat_template_;
  SftData data_;
  SftData held_out_;
  std::vector<std::vector<std::uint32_t>> rows_;  // of examples; what the batch sizes count
  bool keep_activations_ = false;

  std::unique_ptr<model::Model> model_;
  std::unique_ptr<model::LoraAdapter> adapter_;  // null with `full`
  std::unique_ptr<model::TrainableParameters> parameters_;
  std::unique_ptr<SftTrainer> trainer_;
  std::unique_ptr<LogFile> metrics_log_;
};

}  // namespace qgrpo::train
