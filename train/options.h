#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/lora.h"
#include "model/model.h"

namespace qgrpo::train {

// Everything that decides a training run. Names, meanings and (where not said otherwise) spelling
// are those of TRL's GRPOConfig and peft's LoraConfig; the command line has them with dashes. The
// defaults are the setting of the GSM8K notebook.
struct TrainOptions {
  // What is trained, and on what.
  std::string model;          // a Hugging Face folder; empty: the built-in demo
  std::string dataset;        // GSM8K JSONL
  std::string replay;         // recorded groups to train on instead of sampling
  std::string adapter;        // starting adapter (peft folder); the reference is the base
  std::string chat_template;  // "" = the folder's, "chatml"
  model::Quantize quantize = model::Quantize::nf4;
  std::string output_dir = "outputs";
  std::string resume;  // a checkpoint folder, or "latest" in output_dir; empty: a new run
  bool overwrite_output_dir = false;

  // Prompts.
  std::optional<std::string> system_prompt;  // absent: the notebook's
  bool one_shot = false;
  std::int64_t max_prompt_length = 256;  // cut on the left
  bool shuffle_dataset = true;

  // Sampling.
  std::int64_t num_generations = 8;  // completions a prompt, G
  std::int64_t max_completion_length = 512;
  double temperature = 0.9;
  double top_p = 1.0;
  std::int64_t top_k = 0;
  double min_p = 0.0;
  double repetition_penalty = 1.0;
  std::vector<std::string> rewards;  // name[:weight]; empty: all five

  // Objective.
  double beta = 0.04;  // 0: no reference pass
  double epsilon = 0.2;
  std::string loss_type = "grpo";
  std::string loss_form = "now";  // now: logits / temperature; then: temperature 1, plain k3
  bool use_bias_correction_kl =
      false;  // TRL 1.16's default is true; the notebook's KL is the plain one
  std::string scale_rewards = "group";
  double logp_difference_limit =
      0.05;  // stops the run: mean |sampled - training log-prob| of a step (0 = off)

  // Steps. Groups per optimizer step = prompts_per_step * gradient_accumulation_steps.
  std::int64_t max_steps = 0;  // 0: 2000, or in a replay as many as its groups make
  std::int64_t prompts_per_step = 1;
  std::int64_t gradient_accumulation_steps = 1;
  bool gradient_checkpointing = true;
  std::int64_t micro_batch_tokens = 0;  // 0 = chosen from the plan

  // Optimizer.
  double learning_rate = 5e-6;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.99;
  double adam_epsilon = 1e-8;
  double weight_decay = 0.1;
  double max_grad_norm = 0.1;        // 0 = no clipping
  std::string optim = "adamw_8bit";  // or adamw_torch
  std::string lr_scheduler_type = "cosine";
  double warmup_ratio = 0.1;
  std::int64_t warmup_steps = 0;  // > 0 overrides warmup_ratio

  // LoRA (a new adapter; --adapter brings its own).
  std::int64_t lora_r = 64;
  double lora_alpha = 64.0;
  bool use_rslora = false;
  std::vector<std::string> lora_target_modules = {"all-linear"};

  // The run.
  std::uint64_t seed = 3407;
  std::int64_t save_steps = 250;
  std::int64_t save_total_limit = 0;  // 0 = all
  std::int64_t logging_steps =
      1;  // a console line every so many steps (metrics.jsonl has every step)
  std::int64_t sample_steps = 10;       // shows a completion every so many steps; 0 = never
  std::int64_t threads = 0;             // 0 = all cores
  double device_memory_gb = 0.0;        // what the plan may use; 0 = the machine's free memory
  double gpu_memory_utilization = 0.9;  // of device_memory_gb

  // Names of the options that the user set (on the command line or in a file): the demo brings
  // other defaults than a real run, and only for the rest.
  std::vector<std::string> given;
};

// Throws Error naming the first option that is impossible, what was found and what is expected.
void validate(const TrainOptions& options);

}  // namespace qgrpo::train
