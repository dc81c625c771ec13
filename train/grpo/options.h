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
  std::string model;                 // a Hugging Face folder; empty: the built-in demo
  std::vector<std::string> dataset;  // JSONL files, read one after the other (train/data/dataset.h)
  std::string replay;                // recorded groups to train on instead of sampling
  std::string adapter;               // starting adapter (peft folder); the reference is the base
  std::string chat_template;         // "" = the folder's, "chatml"
  model::Quantize quantize = model::Quantize::nf4;
  std::string output_dir = "outputs";
  std::string resume;  // a checkpoint folder, or "latest" in output_dir; empty: a new run
  bool overwrite_output_dir = false;

  // The data: what its columns mean, and the part that is trained on.
  std::string prompt_column;  // train/data/dataset.h, DatasetOptions
  std::string answer_column;
  std::string answer_format = "auto";  // auto | gsm8k | plain
  double train_split = 1.0;  // below 1 a part, from 2 on a number of examples; the rest is held out

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
  std::vector<std::string>
      rewards;  // train/reward/rewards.h, parse_rewards; empty: the notebook's five
  double reward_timeout = 120.0;  // seconds that a reward of the user's may take for one call
  std::string python;             // runs rewards in Python; empty: $QGRPO_PYTHON, else python3
  std::int64_t preflight = 4;     // prompts, at least, that are described before step 1; 0 = off

  // Objective.
  double beta = 0.04;                  // 0: no reference pass
  std::string reference = "base";      // or adapter: the starting adapter as it was, frozen
  double epsilon = 0.2;                // lower clipping bound, and the upper one unless given
  std::optional<double> epsilon_high;  // absent: epsilon; cispo: the bound of the ratio itself
  std::optional<double> delta;         // bound of the unclipped ratio (INTELLECT-2); absent: none
  std::string loss_type = "grpo";      // train/objective/loss_weights.h
  std::string importance_sampling_level = "token";  // or sequence (GSPO)
  std::int64_t num_iterations = 1;                  // optimizer steps on each round of sampling
  double top_entropy_quantile = 1.0;        // part of the tokens, by entropy, with a policy term
  bool mask_truncated_completions = false;  // completions without EOS are no part of the loss
  // Groups whose rewards are all equal are replaced by groups of further prompts, sampled in up to
  // max_resample_batches more rounds (DAPO's dynamic sampling).
  bool dynamic_sampling = false;
  std::int64_t max_resample_batches = 10;
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
  // Greedy answers to held-out questions every so many steps, and after the last; 0 = never.
  std::int64_t eval_every = 0;
  std::vector<std::string> eval_dataset;           // empty: what train_split holds out
  std::int64_t eval_limit = 0;                     // the first so many questions; 0 = all
  std::string eval_match = "exact";                // or numeric: train/eval/evaluate.h
  std::string metric_for_best_model = "accuracy";  // or reward, of the built-in rewards
  bool load_best_model_at_end = false;  // the run's result is the best checkpoint, not the last
  std::int64_t logging_steps =
      1;  // a console line every so many steps (metrics.jsonl has every step)
  std::int64_t sample_steps = 10;       // shows a completion every so many steps; 0 = never
  std::int64_t threads = 0;             // 0 = all cores
  double device_memory_gb = 0.0;        // what the plan may use; 0 = the machine's free memory
  double gpu_memory_utilization = 0.9;  // of device_memory_gb

  double hours = 0.0;  // > 0: max_steps follows from it (train/run/timed_schedule.h); 0 = off
  std::vector<std::string> report_to;  // tensorboard, wandb (train/run/trackers.h); or none

  // OWNER/NAME where `model` is a snapshot of the Hub: what the adapter names as its base.
  std::string model_id;
  // The options as a configuration file, for the run's folder; empty: none is written.
  std::string config_toml;
  // Names of the options that the user set (on the command line or in a file): the demo brings
  // other defaults than a real run, and only for the rest.
  std::vector<std::string> given;
};

// Throws Error naming the first option that is impossible, what was found and what is expected.
void validate(const TrainOptions& options);

// Whether the starting adapter is loaded a second time, as the reference of the KL term.
bool uses_reference_adapter(const TrainOptions& options);

}  // namespace qgrpo::train
