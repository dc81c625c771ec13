#include <algorithm>

#include "cli/commands.h"
#include "cli/option_table.h"
#include "cli/stop_signals.h"
#include "cli/toml_options.h"
#include "hub/pull.h"
#include "model/io/bytes.h"
#include "train/demo/demo.h"
#include "train/grpo/options.h"
#include "train/grpo/plan.h"
#include "train/grpo/trainer.h"

namespace qgrpo::cli {
namespace {

struct TrainCommand {
  train::TrainOptions options;
  DeviceOptions device;
  std::string config;
};

void add_sources(OptionTable& table, train::TrainOptions& o) {
  table.group("What is trained, and on what");
  table.value("--model", o.base.model, "DIR",
              "Hugging Face folder of a Qwen2/Qwen2.5 model; without it, the built-in demo runs");
  table
      .value("--dataset", o.data.dataset, "FILE",
             "JSON lines: GSM8K's \"question\" and \"answer\", or \"prompt\" or \"messages\"; "
             "repeatable")
      ->default_str("");
  table.value(
      "--prompt-column", o.data.prompt_column, "NAME",
      "Key of the question, or of the conversation (default: prompt, messages or question)");
  table.value("--answer-column", o.data.answer_column, "NAME",
              "Key of the answer (default: answer)");
  table.choice("--answer-format", o.data.answer_format, train::kAnswerFormatNames,
               "gsm8k: the answer stands behind ####; plain: it is all of it; auto");
  table.value("--train-split", o.data.train_split, "X",
              "Train on this part (or number) of the examples, chosen by --seed; the rest is held "
              "out in OUTPUT_DIR/held_out.jsonl");
  table.value("--replay", o.data.replay, "FILE",
              "Train on recorded groups instead of sampling: JSON lines of \"prompt_ids\", "
              "\"completions\", \"rewards\"");
  table.value("--adapter", o.base.adapter, "DIR",
              "Starting adapter, a peft folder (see --reference)");
  table.value(
      "--chat-template", o.base.chat_template, "NAME",
      "chatml (for folders whose own template is missing), or a file with a Jinja template");
  table.text("--quantize", "NAME", "Base weights: nf4 (4 bits, default) or none",
             [&o](const std::string& name) { o.base.quantize = model::parse_quantize(name); });
  table.value("--output-dir", o.run.output_dir, "DIR", "Checkpoints and logs");
  table
      .text("--resume", "[DIR]", "Go on from a checkpoint; without a folder, from the latest one",
            [&o](const std::string& folder) { o.run.resume = folder.empty() ? "latest" : folder; })
      ->expected(0, 1);
  table.flag("overwrite-output-dir", o.run.overwrite_output_dir,
             "Start anew in an output folder that holds an earlier run");

  table.group("Prompts");
  table.text("--system-prompt", "TEXT", "Before each question (default: the GSM8K notebook's)",
             [&o](const std::string& text) { o.prompt.system_prompt = text; });
  table.flag("one-shot", o.prompt.one_shot, "A solved question before the real one");
  table.value("--max-prompt-length", o.prompt.max_prompt_length, "N",
              "Tokens; longer prompts are cut on the left");
  table.flag("shuffle-dataset", o.data.shuffle_dataset, "A new order in each epoch");
}

// A number that may be absent.
void optional(OptionTable& table, const std::string& name, std::optional<double>& field,
              const std::string& meaning) {
  table.text(name, "X", meaning, [&field, name](const std::string& text) {
    double value = 0.0;
    if (!CLI::detail::lexical_cast(text, value))
      throw CLI::ValidationError(name, fmt::format("found \"{}\", expected a number", text));
    field = value;
  });
}

void add_sampling_and_objective(OptionTable& table, train::TrainOptions& o) {
  table.group("Sampling");
  table.value("--num-generations", o.sampling.num_generations, "G", "Completions of each prompt");
  table.value("--max-completion-length", o.sampling.max_completion_length, "N",
              "Tokens of a completion");
  table.value("--temperature", o.sampling.temperature, "X", "Of the sampling");
  table.value("--top-p", o.sampling.top_p, "P",
              "Keep the tokens that together have this probability; 1 = off");
  table.value("--top-k", o.sampling.top_k, "K", "Keep the K most likely tokens; 0 = off");
  table.value("--min-p", o.sampling.min_p, "P",
              "Drop tokens below this fraction of the likeliest; 0 = off");
  table.value("--repetition-penalty", o.sampling.repetition_penalty, "X", "1 = off");

  table.group("Rewards");
  table
      .value("--reward,--rewards", o.reward.rewards, "NAME[:WEIGHT]",
             "xmlcount, soft_format, strict_format, int, correctness (default: these five), "
             "numeric; FILE.py:FUNCTION[:WEIGHT] with TRL's signature; or cmd:'PROGRAM ARGS'"
             "[:WEIGHT] over JSON lines (docs/rewards.md). Repeatable, or with commas between")
      ->default_str("");
  table.value("--reward-timeout", o.reward.reward_timeout, "SECONDS",
              "For one call of a Python function or program");
  table.text("--python", "PROGRAM", "Runs rewards in Python (default: $QGRPO_PYTHON, else python3)",
             [&o](const std::string& program) { o.run.python = program; });
  table.value("--preflight", o.reward.preflight, "N",
              "Before step 1, show what the rewards of at least N prompts are like; 0 = off");

  table.group("Objective");
  table.value("--beta", o.objective.beta, "X",
              "Weight of the KL to the reference; 0 = no reference pass");
  table.choice("--reference", o.objective.reference, train::kReferenceNames,
               "What the KL is taken to: base, or adapter: --adapter as it was, frozen");
  table.value("--epsilon", o.objective.epsilon, "X", "Clipping range of the importance ratio");
  optional(table, "--epsilon-high", o.objective.epsilon_high,
           "Its upper end (default: --epsilon); with cispo the bound of the ratio itself");
  optional(table, "--delta", o.objective.delta,
           "Bound of the unclipped ratio, at least 1 + epsilon_high");
  table.choice("--loss-type", o.objective.loss_type, train::kLossTypeNames,
               "grpo, bnpo, dr_grpo, dapo, luspo, cispo, sapo or vespo");
  table.choice("--importance-sampling-level", o.objective.importance_sampling_level,
               train::kImportanceLevelNames, "token, or sequence: one ratio a completion (GSPO)");
  table.value("--num-iterations", o.objective.num_iterations, "N",
              "Optimizer steps on each round of sampling");
  table.value("--top-entropy-quantile", o.objective.top_entropy_quantile, "X",
              "Learn from this part of the tokens, those of the highest entropy; 1 = all");
  table.flag("mask-truncated-completions", o.objective.mask_truncated_completions,
             "Leave completions that hit the length limit out of the loss");
  table.flag("dynamic-sampling", o.objective.dynamic_sampling,
             "Replace groups whose rewards are all equal by those of further prompts (DAPO)");
  table.value("--max-resample-batches", o.objective.max_resample_batches, "N",
              "Rounds of sampling that --dynamic-sampling may add to a step");
  table.choice("--loss-form", o.objective.loss_form, train::kLossFormNames,
               "now: log-probs at the sampling temperature; then: at temperature 1, plain KL");
  table.flag("use-bias-correction-kl", o.objective.use_bias_correction_kl,
             "Multiply the KL term by the importance ratio");
  table.choice("--scale-rewards", o.objective.scale_rewards, train::kScaleRewardsNames,
               "Divide advantages by the deviation of the group, the batch, or none");
  table.value("--logp-difference-limit", o.objective.logp_difference_limit, "X",
              "Stop where sampling and training disagree by more (mean |log-prob|); 0 = off");
}

void add_optimization(OptionTable& table, train::TrainOptions& o) {
  table.group("Steps");
  table.value("--max-steps", o.run.max_steps, "N",
              "Optimizer steps; 0 = 2000, or as many as a replay has groups for");
  table.value("--hours", o.run.hours, "X",
              "Instead of --max-steps: as many as fit into this time; 0 = off");
  table.value("--prompts-per-step", o.batch.prompts_per_step, "N", "Prompts computed together");
  table.value("--gradient-accumulation-steps", o.batch.gradient_accumulation_steps, "N",
              "Times --prompts-per-step prompts an optimizer step");
  table.flag("gradient-checkpointing", o.memory.gradient_checkpointing,
             "Save memory: compute blocks anew in the backward pass where there is no room");
  table.value("--micro-batch-tokens", o.memory.micro_batch_tokens, "N",
              "0 = chosen from the memory plan");

  table.group("Optimizer");
  table.value("--learning-rate", o.optimizer.learning_rate, "X", "Peak rate");
  table.value("--adam-beta1", o.optimizer.adam_beta1, "X", "Decay of the first moment");
  table.value("--adam-beta2", o.optimizer.adam_beta2, "X", "Decay of the second moment");
  table.value("--adam-epsilon", o.optimizer.adam_epsilon, "X",
              "Added to the root of the second moment");
  table.value("--weight-decay", o.optimizer.weight_decay, "X", "Decoupled (AdamW)");
  table.value("--max-grad-norm", o.optimizer.max_grad_norm, "X",
              "Clip the gradient's norm; 0 = off");
  table.choice("--optim", o.optimizer.optim, train::kOptimizerNames,
               "adamw_8bit or adamw_torch (32 bits)");
  table.choice("--lr-scheduler-type", o.optimizer.lr_scheduler_type, train::kLrScheduleNames,
               "cosine, linear or constant (no warm-up)");
  table.value("--warmup-ratio", o.optimizer.warmup_ratio, "X",
              "Part of the steps in which the rate rises");
  table.value("--warmup-steps", o.optimizer.warmup_steps, "N",
              "Instead of --warmup-ratio; 0 = off");

  table.group("LoRA (a new adapter)");
  table.value("--lora-r", o.lora.lora_r, "R", "Rank");
  table.value("--lora-alpha", o.lora.lora_alpha, "X", "Scale = alpha / r");
  table.flag("use-rslora", o.lora.use_rslora, "Scale = alpha / sqrt(r)");
  table
      .value("--lora-target-modules", o.lora.lora_target_modules, "NAME",
             "all-linear, or some of q_proj k_proj v_proj o_proj gate_proj up_proj down_proj")
      ->delimiter(',');
}

void add_run(OptionTable& table, TrainCommand& command) {
  train::TrainOptions& o = command.options;
  table.group("The run");
  table.value("--seed", o.run.seed, "N", "Decides all random numbers")->check(not_negative());
  table.value("--save-steps", o.run.save_steps, "N",
              "Steps between checkpoints; 0 = only the last");
  table.value("--save-total-limit", o.run.save_total_limit, "N", "Keep the newest N; 0 = all");
  table.value("--eval-every", o.eval.eval_every, "N",
              "Answer held-out questions every N steps and keep the best checkpoint; 0 = never");
  table
      .value("--eval-dataset", o.eval.eval_dataset, "FILE",
             "Questions of the evaluation (default: those that --train-split holds out)")
      ->default_str("");
  table.value("--eval-limit", o.eval.eval_limit, "N", "The first N of them; 0 = all");
  table.choice("--eval-match", o.eval.eval_match, train::kAnswerMatchNames,
               "When an answer is right: exact or numeric (see qgrpo eval)");
  table.choice("--metric-for-best-model", o.eval.metric_for_best_model, train::kBestMetricNames,
               "accuracy, or reward: the sum of the built-in rewards");
  table.flag("load-best-model-at-end", o.eval.load_best_model_at_end,
             "The run's result is the best checkpoint, not the last one");
  table
      .value("--report-to", o.run.report_to, "NAME",
             "Besides metrics.jsonl: tensorboard (OUTPUT_DIR/runs), wandb, or none")
      ->default_str("")
      ->delimiter(',');
  table.value("--logging-steps", o.run.logging_steps, "N", "Steps between console lines");
  table.value("--sample-steps", o.sample_steps, "N", "Show a completion every N steps; 0 = never");
  table.value("--device", command.device.device, "NAME", "auto, cpu or cuda");
  table.value("--threads", o.run.threads, "N", "CPU threads; 0 = all cores");
  table.text("--device-memory", "SIZE", "What the run may use, e.g. 24GB (default: what is free)",
             [&o](const std::string& text) {
               o.memory.device_memory_gb = static_cast<double>(io::parse_bytes(text)) / 1e9;
             });
  table.value("--gpu-memory-utilization", o.memory.gpu_memory_utilization, "X",
              "The part of --device-memory that is used");
}

}  // namespace

void add_train_command(CLI::App& app, Command& chosen) {
  auto* sub = app.add_subcommand(
      "train", "Train a LoRA with GRPO; without options, the built-in demo (a few minutes)");
  sub->footer(
      "A real model:\n  qgrpo train --model Qwen2.5-0.5B-Instruct --dataset train.jsonl\n"
      "Options are named as in TRL's GRPOConfig. A --config file has them as TOML keys\n"
      "(num_generations = 8); the command line wins over the file.");
  const auto command = std::make_shared<TrainCommand>();
  OptionTable table(*sub);
  add_sources(table, command->options);
  add_sampling_and_objective(table, command->options);
  add_optimization(table, command->options);
  add_run(table, *command);
  auto* config = sub->add_option("--config", command->config, "TOML file of options")
                     ->type_name("FILE")
                     ->group("The run");
  sub->callback([sub, config, command, &chosen] {
    if (config->count() > 0) apply_toml(*sub, command->config);
    train::TrainOptions& options = command->options;
    options.run.given = given_options(*sub);
    require(config->count() == 0 || !options.base.model.empty(),
            "--config {}: names no model; add --model DIR (the built-in demo, which runs without a "
            "model, has its own "
            "setting)",
            command->config);
    train::validate(options);
    chosen = [command, sub] {
      if (!command->options.base.model.empty()) {
        const std::string repo = hub::snapshot_name(command->options.base.model);
        command->options.base.model_id = repo.substr(0, repo.find('@'));
        command->options.run.config_toml = toml_of(*sub, repo);
      }
      command->device.threads = command->options.run.threads;
      const auto backend = make_backend(command->device);
      const StopSignals signals;
      if (command->options.base.model.empty()) return train::run_demo(command->options, *backend);
      train::GrpoTrainer(command->options, *backend).run();
      return 0;
    };
  });
}

}  // namespace qgrpo::cli
