#include "train/grpo/settings.h"

#include "train/grpo/policy.h"

namespace qgrpo::train {

RolloutSettings rollout_settings(const TrainOptions& options, std::vector<std::int32_t> eos_ids) {
  const SamplingOptions& o = options.sampling;
  RolloutSettings rollout;
  rollout.num_generations = o.num_generations;
  rollout.max_completion_length = o.max_completion_length;
  rollout.sampling.temperature = static_cast<float>(o.temperature);
  rollout.sampling.top_p = static_cast<float>(o.top_p);
  rollout.sampling.top_k = static_cast<std::int32_t>(o.top_k);
  rollout.sampling.min_p = static_cast<float>(o.min_p);
  rollout.sampling.repetition_penalty = static_cast<float>(o.repetition_penalty);
  rollout.eos_ids = std::move(eos_ids);
  rollout.adapter = kPolicyAdapter;
  rollout.seed = options.run.seed;
  rollout.logprobs_at_temperature_one = options.objective.loss_form == LossForm::then;
  return rollout;
}

UpdateSettings update_settings(const TrainOptions& options, std::span<const Group> groups) {
  const ObjectiveOptions& o = options.objective;
  const bool then_form = o.loss_form == LossForm::then;
  UpdateSettings update;
  ObjectiveParams& params = update.objective.params;
  params.beta = static_cast<float>(o.beta);
  params.epsilon_low = static_cast<float>(o.epsilon);
  params.epsilon_high = static_cast<float>(o.epsilon_high.value_or(o.epsilon));
  params.has_delta = o.delta.has_value();
  if (o.delta) params.delta = static_cast<float>(*o.delta);
  params.kl_bias_correction = o.use_bias_correction_kl && !then_form;
  update.objective.type = o.loss_type;
  update.objective.level = o.importance_sampling_level;
  update.objective.top_entropy_quantile = o.top_entropy_quantile;
  update.normalization.accumulation_steps = options.batch.gradient_accumulation_steps;
  update.normalization.max_completion_length = options.sampling.max_completion_length;
  std::int64_t tokens = 0;
  for (const Group& group : groups) {
    for (const auto& c : group.completions) tokens += c.counted ? std::ssize(c.ids) : 0;
  }
  update.normalization.step_tokens = static_cast<double>(tokens);
  update.groups_per_chunk = options.batch.prompts_per_step;
  update.temperature = then_form ? 1.0f : static_cast<float>(options.sampling.temperature);
  update.policy_adapter = kPolicyAdapter;
  update.reference_adapter = uses_reference_adapter(options) ? kAdapterReference : kBaseReference;
  return update;
}

}  // namespace qgrpo::train
