#include "train/grpo/options.h"

#include <cmath>
#include <limits>

#include "model/ops/error.h"
#include "tokenizer/chat_template.h"
#include "train/data/dataset.h"
#include "train/eval/evaluate.h"
#include "train/objective/advantages.h"
#include "train/objective/loss_weights.h"
#include "train/objective/objective.h"
#include "train/optim/lr_schedule.h"
#include "train/optim/optimizer.h"
#include "train/reward/rewards.h"
#include "train/run/trackers.h"

namespace qgrpo::train {
namespace {

// Large enough for any run, small enough that products of three stay in 64 bits.
constexpr std::int64_t kMost = 1 << 20;

void whole(const char* name, std::int64_t value, std::int64_t least, std::int64_t most,
           const char* meaning) {
  require(value >= least && value <= most, "{}: found {}, expected {} to {} ({})", name, value,
          least, most, meaning);
}

// least <= value <= most, or least < value where `open`. NaN is refused.
void number(const char* name, double value, double least, bool open, double most,
            const char* expected) {
  const bool above = open ? value > least : value >= least;
  require(above && value <= most && std::isfinite(value), "{}: found {}, expected {}", name, value,
          expected);
}

// Puts the option's name before the message of whoever knows its values.
template <typename Check>
void named(const char* name, Check&& check) {
  try {
    check();
  } catch (const Error& error) {
    fail("{}: {}", name, error.what());
  }
}

void check_sources(const TrainOptions& o) {
  require(o.data.dataset.empty() || o.data.replay.empty(),
          "--dataset and --replay: found both, expected one: a replay brings its own prompts");
  if (o.base.model.empty()) {
    const std::string data = o.data.dataset.empty() ? "" : o.data.dataset.front();
    for (const auto& [name, value] :
         {std::pair{"--dataset", &data}, std::pair{"--replay", &o.data.replay},
          std::pair{"--adapter", &o.base.adapter}}) {
      require(value->empty(),
              "{} {}: found no --model, expected the folder of the model to train (without either, "
              "the built-in demo runs)",
              name, *value);
    }
  } else {
    require(!o.data.dataset.empty() || !o.data.replay.empty(),
            "--dataset: not given, expected a file of JSON lines with \"question\" and \"answer\" "
            "(GSM8K's format), or --replay with recorded groups");
  }
  for (const std::string& path : o.data.dataset)
    require(!path.empty(), "--dataset: found an empty name, expected a file of JSON lines");
  number("--train-split", o.data.train_split, 0, true, 1e9,
         "a part such as 0.9, or the number of examples to train on (1 is all)");
  require(!o.run.output_dir.empty(), "--output-dir: found an empty name, expected a folder");
  tokenizer::check_chat_template_options(o.base.chat_template, "");
  require(o.run.resume.empty() || !o.run.overwrite_output_dir,
          "--resume and --overwrite-output-dir: found both, expected one");
}

void check_sampling(const TrainOptions& o) {
  whole("--max-prompt-length", o.prompt.max_prompt_length, 1, kMost,
        "longer prompts are cut on the left");
  whole("--max-completion-length", o.sampling.max_completion_length, 1, kMost, "tokens");
  whole("--num-generations", o.sampling.num_generations, 2, 4096,
        "the advantage compares a group's completions, so a group of 1 has none");
  if (o.data.replay.empty()) {
    number("--temperature", o.sampling.temperature, 0, true, 1e6,
           "a number > 0: greedy completions of a prompt are all alike");
  } else {
    number("--temperature", o.sampling.temperature, 0, true, 1e6, "a number > 0");
  }
  number("--top-p", o.sampling.top_p, 0, true, 1, "0 < top_p <= 1 (1 is off)");
  whole("--top-k", o.sampling.top_k, 0, std::numeric_limits<std::int32_t>::max(), "0 is off");
  number("--min-p", o.sampling.min_p, 0, false, 1, "0 <= min_p <= 1 (0 is off)");
  number("--repetition-penalty", o.sampling.repetition_penalty, 0, true, 1e6,
         "a number > 0 (1 is off)");
  named("--rewards", [&] { parse_rewards(o.reward.rewards); });
  number("--reward-timeout", o.reward.reward_timeout, 0, true, 1e6, "a number of seconds > 0");
  whole("--preflight", o.reward.preflight, 0, 1 << 16,
        "prompts to describe before step 1; 0 is off");
}

void check_objective(const TrainOptions& o) {
  number("--beta", o.objective.beta, 0, false, 1e6, "a number >= 0 (0 is off)");
  number("--epsilon", o.objective.epsilon, 0, false, 1e6, "a number >= 0");
  if (o.objective.epsilon_high)
    number("--epsilon-high", *o.objective.epsilon_high, 0, true, 1e6, "a number > 0");
  if (o.objective.delta) {
    number("--delta", *o.objective.delta,
           1.0 + o.objective.epsilon_high.value_or(o.objective.epsilon), false, 1e6,
           "a bound of the ratio that is not below 1 + epsilon_high");
  }
  require(o.objective.reference == Reference::base || !o.base.adapter.empty(),
          "--reference adapter: found no --adapter, expected the starting adapter that is the "
          "reference");
  require(o.objective.loss_type != LossType::cispo || o.objective.epsilon_high,
          "--loss-type cispo: found no --epsilon-high, expected the bound of the ratio itself (5.0 "
          "is usual)");
  whole("--num-iterations", o.objective.num_iterations, 1, 1 << 16,
        "steps on each round of sampling");
  number("--top-entropy-quantile", o.objective.top_entropy_quantile, 0, true, 1,
         "0 < quantile <= 1 (1 is all tokens)");
  whole("--max-resample-batches", o.objective.max_resample_batches, 1, 1 << 16,
        "rounds of sampling");
  require(!o.objective.dynamic_sampling || o.data.replay.empty(),
          "--dynamic-sampling and --replay: found both; a replay samples nothing");
  require(o.objective.loss_form == LossForm::now ||
              (o.objective.num_iterations == 1 && o.objective.loss_type != LossType::cispo &&
               o.objective.loss_type != LossType::sapo && o.objective.loss_type != LossType::vespo),
          "--loss-form then: the loss of 2025 knows no --num-iterations above 1 and no cispo, sapo "
          "or vespo; use --loss-form now");
  number("--logp-difference-limit", o.objective.logp_difference_limit, 0, false, 1e6,
         "a number >= 0 (0 is off)");
}

void check_optimizer(const TrainOptions& o) {
  number("--learning-rate", o.optimizer.learning_rate, 0, false, 1e3, "a number >= 0");
  number("--adam-beta1", o.optimizer.adam_beta1, 0, false, std::nextafter(1.0, 0.0),
         "0 <= beta1 < 1");
  number("--adam-beta2", o.optimizer.adam_beta2, 0, false, std::nextafter(1.0, 0.0),
         "0 <= beta2 < 1");
  number("--adam-epsilon", o.optimizer.adam_epsilon, 0, true, 1, "0 < epsilon <= 1");
  number("--weight-decay", o.optimizer.weight_decay, 0, false, 1e3, "a number >= 0");
  number("--max-grad-norm", o.optimizer.max_grad_norm, 0, false, 1e30, "a number >= 0 (0 is off)");
  number("--warmup-ratio", o.optimizer.warmup_ratio, 0, false, 1, "0 to 1");
  whole("--warmup-steps", o.optimizer.warmup_steps, 0, 1 << 30, "0 leaves it to --warmup-ratio");
}

void check_lora(const TrainOptions& o) {
  whole("--lora-r", o.lora.lora_r, 1, 1 << 16, "the rank");
  number("--lora-alpha", o.lora.lora_alpha, 0, true, 1e6, "a number > 0");
  named("--lora-target-modules", [&] {
    require(!o.lora.lora_target_modules.empty(), "found none, expected at least one module");
    model::parse_target_modules(o.lora.lora_target_modules);
  });
}

void check_run(const TrainOptions& o) {
  whole("--max-steps", o.run.max_steps, 0, 1 << 30, "0 = the default");
  number("--hours", o.run.hours, 0, false, 1e5, "a number of hours (0 is off)");
  require(o.run.hours == 0 || o.optimizer.warmup_steps == 0,
          "--hours and --warmup-steps: found both; with --hours the warm-up is a part of the run: "
          "give --warmup-ratio");
  named("--report-to", [&] { check_report_to(o.run.report_to); });
  whole("--prompts-per-step", o.batch.prompts_per_step, 1, 1 << 16, "groups computed together");
  whole("--gradient-accumulation-steps", o.batch.gradient_accumulation_steps, 1, 1 << 16,
        "times --prompts-per-step groups an optimizer step");
  whole("--micro-batch-tokens", o.memory.micro_batch_tokens, 0, 1 << 24,
        "0 = chosen from the plan");
  whole("--eval-every", o.eval.eval_every, 0, 1 << 30, "0 = never");
  whole("--eval-limit", o.eval.eval_limit, 0, 1 << 30, "questions; 0 = all");
  require(o.eval.eval_every == 0 || o.data.replay.empty(),
          "--eval-every and --replay: found both; a replay samples nothing, so it cannot evaluate");
  require(o.eval.eval_every == 0 || !o.eval.eval_dataset.empty() || o.base.model.empty() ||
              (o.data.train_split > 0 && o.data.train_split != 1),
          "--eval-every {}: found no questions for it, expected --eval-dataset FILE, or a "
          "--train-split that holds some out",
          o.eval.eval_every);
  require(o.eval.eval_every > 0 || o.eval.eval_dataset.empty(),
          "--eval-dataset: found no --eval-every, expected the steps between evaluations");
  require(!o.eval.load_best_model_at_end || o.eval.eval_every > 0,
          "--load-best-model-at-end: found no --eval-every, so no checkpoint is known to be best");
  whole("--save-steps", o.run.save_steps, 0, 1 << 30, "0 = only at the end");
  whole("--save-total-limit", o.run.save_total_limit, 0, 1 << 30, "0 = keep all");
  whole("--logging-steps", o.run.logging_steps, 1, 1 << 30, "steps between console lines");
  whole("--sample-steps", o.sample_steps, 0, 1 << 30, "0 = never");
  whole("--threads", o.run.threads, 0, 1024, "0 = all cores");
  number("--device-memory", o.memory.device_memory_gb, 0, false, 1e9, "a size such as 24GB");
  number("--gpu-memory-utilization", o.memory.gpu_memory_utilization, 0, true, 1,
         "0 < utilization <= 1");
}

}  // namespace

void validate(const TrainOptions& options) {
  check_sources(options);
  check_sampling(options);
  check_objective(options);
  check_optimizer(options);
  check_lora(options);
  check_run(options);
}

bool uses_reference_adapter(const TrainOptions& options) {
  return options.objective.reference == Reference::adapter && options.objective.beta != 0.0;
}

}  // namespace qgrpo::train
