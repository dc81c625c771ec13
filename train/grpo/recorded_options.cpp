#include <string>
#include <vector>

#include "model/io/json.h"
#include "train/grpo/options.h"

namespace qgrpo::train {
namespace {

std::string join(const std::vector<std::string>& items) {
  std::string out;
  for (const auto& item : items) out += (out.empty() ? "" : ",") + item;
  return out;
}

std::map<std::string, std::string> decisive(const TrainOptions& o) {
  std::map<std::string, std::string> out;
  const auto put = [&](const char* name, const auto& value) {
    out[name] = fmt::format("{}", value);
  };
  put("quantize", model::kQuantizeNames.name(o.base.quantize));
  put("system_prompt",
      o.prompt.system_prompt ? "=" + *o.prompt.system_prompt : std::string("default"));
  put("chat_template", o.base.chat_template);
  put("one_shot", o.prompt.one_shot);
  put("prompt_column", o.data.prompt_column);
  put("answer_column", o.data.answer_column);
  put("answer_format", kAnswerFormatNames.name(o.data.answer_format));
  put("train_split", o.data.train_split);
  put("max_prompt_length", o.prompt.max_prompt_length);
  put("shuffle_dataset", o.data.shuffle_dataset);
  put("num_generations", o.sampling.num_generations);
  put("max_completion_length", o.sampling.max_completion_length);
  put("temperature", o.sampling.temperature);
  put("top_p", o.sampling.top_p);
  put("top_k", o.sampling.top_k);
  put("min_p", o.sampling.min_p);
  put("repetition_penalty", o.sampling.repetition_penalty);
  put("rewards", join(o.reward.rewards));
  put("beta", o.objective.beta);
  put("reference",
      kReferenceNames.name(o.objective.beta == 0.0 ? Reference::base : o.objective.reference));
  put("epsilon", o.objective.epsilon);
  put("epsilon_high", o.objective.epsilon_high.value_or(o.objective.epsilon));
  put("delta", o.objective.delta.value_or(0.0));
  put("loss_type", kLossTypeNames.name(o.objective.loss_type));
  put("importance_sampling_level",
      kImportanceLevelNames.name(o.objective.importance_sampling_level));
  put("num_iterations", o.objective.num_iterations);
  put("top_entropy_quantile", o.objective.top_entropy_quantile);
  put("mask_truncated_completions", o.objective.mask_truncated_completions);
  put("dynamic_sampling", o.objective.dynamic_sampling);
  put("max_resample_batches", o.objective.max_resample_batches);
  put("loss_form", kLossFormNames.name(o.objective.loss_form));
  put("use_bias_correction_kl", o.objective.use_bias_correction_kl);
  put("scale_rewards", kScaleRewardsNames.name(o.objective.scale_rewards));
  put("max_steps", o.run.max_steps);
  put("schedule", o.run.hours > 0 ? "hours" : "steps");
  put("prompts_per_step", o.batch.prompts_per_step);
  put("gradient_accumulation_steps", o.batch.gradient_accumulation_steps);
  put("learning_rate", o.optimizer.learning_rate);
  put("adam_beta1", o.optimizer.adam_beta1);
  put("adam_beta2", o.optimizer.adam_beta2);
  put("adam_epsilon", o.optimizer.adam_epsilon);
  put("weight_decay", o.optimizer.weight_decay);
  put("max_grad_norm", o.optimizer.max_grad_norm);
  put("optim", kOptimizerNames.name(o.optimizer.optim));
  put("lr_scheduler_type", kLrScheduleNames.name(o.optimizer.lr_scheduler_type));
  put("warmup_ratio", o.optimizer.warmup_ratio);
  put("warmup_steps", o.optimizer.warmup_steps);
  if (o.base.adapter.empty()) {
    put("lora_r", o.lora.lora_r);
    put("lora_alpha", o.lora.lora_alpha);
    put("use_rslora", o.lora.use_rslora);
    put("lora_target_modules", join(o.lora.lora_target_modules));
  }
  put("seed", o.run.seed);
  return out;
}

std::string json(const TrainOptions& options, const std::map<std::string, std::string>& decisive) {
  io::JsonWriter w;
  w.begin_object();
  w.member("model", options.base.model);
  w.member("dataset", options.data.dataset);
  if (!options.data.replay.empty()) w.member("replay", options.data.replay);
  if (!options.base.adapter.empty()) w.member("adapter", options.base.adapter);
  for (const auto& [name, value] : decisive) w.member(name, value);
  w.end_object();
  return w.str();
}

}  // namespace

RecordedOptions recorded_options(const TrainOptions& options) {
  RecordedOptions out;
  out.decisive = decisive(options);
  out.json = json(options, out.decisive);
  return out;
}

}  // namespace qgrpo::train
