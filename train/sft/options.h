#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "model/model.h"

namespace qgrpo::train {

// Everything that decides a run of `qgrpo sft`. Names and, where not said otherwise, defaults are
// those of TRL's SFTConfig (transformers' TrainingArguments) and peft's LoraConfig.
struct SftRunOptions {
  // What is trained, and on what.
  std::string model;                      // a Hugging Face folder
  std::vector<std::string> dataset;       // JSON lines: train/sft/data.h
  std::vector<std::string> eval_dataset;  // a hold-out, of which the loss is reported
  std::string adapter;                    // starting adapter (peft folder)
  std::string chat_template;              // "" = the folder's, "chatml"
  model::Quantize quantize = model::Quantize::nf4;
  bool full = false;  // every parameter instead of an adapter, in float32
  std::string output_dir = "outputs/sft";
  std::string resume;  // a checkpoint folder, or "latest" in output_dir; empty: a new run
  bool overwrite_output_dir = false;

  // Examples.
  std::int64_t max_length = 1024;  // tokens; longer ones are cut at the end
  bool packing = false;            // rows of several examples: pack_examples()
  bool shuffle_dataset = true;     // a new order in each epoch

  // Steps. Samples (rows, with packing) per optimizer step = per_device_train_batch_size *
  // gradient_accumulation_steps. How many tokens are computed at once is another matter.
  double num_train_epochs = 3.0;
  std::int64_t max_steps = 0;  // above 0: instead of num_train_epochs
  std::int64_t per_device_train_batch_size = 8;
  std::int64_t gradient_accumulation_steps = 1;
  bool gradient_checkpointing = true;   // where the blocks' activations have no room
  std::int64_t micro_batch_tokens = 0;  // 0 = chosen: at least the longest example

  // Optimizer.
  std::optional<double> learning_rate;  // absent: 2e-4 for an adapter, 2e-5 with `full`
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double weight_decay = 0.0;
  double max_grad_norm = 1.0;         // 0 = no clipping
  std::string optim = "adamw_torch";  // or adamw_8bit
  std::string lr_scheduler_type = "linear";
  double warmup_ratio = 0.0;
  std::int64_t warmup_steps = 0;  // > 0 overrides warmup_ratio

  // LoRA (a new adapter; --adapter brings its own). TRL's ModelConfig.
  std::int64_t lora_r = 16;
  double lora_alpha = 32.0;
  bool use_rslora = false;
  std::vector<std::string> lora_target_modules = {"all-linear"};

  // The run.
  std::uint64_t seed = 42;
  std::int64_t eval_steps = 0;  // 0: at the end of each epoch
  std::int64_t save_steps = 500;
  std::int64_t save_total_limit = 0;  // 0 = all
  std::int64_t logging_steps = 10;
  std::int64_t threads = 0;             // 0 = all cores
  double device_memory_gb = 0.0;        // what the run may use; 0 = the machine's free memory
  double gpu_memory_utilization = 0.9;  // of it

  double rate() const { return learning_rate.value_or(full ? 2e-5 : 2e-4); }
};

// Throws Error naming the first option that is impossible, what was found and what is expected.
void validate(const SftRunOptions& options);

// The options that decide a run's result, by name, as text: a resumed run must have the same.
std::map<std::string, std::string> result_options(const SftRunOptions& options);

}  // namespace qgrpo::train
