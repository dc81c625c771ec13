#include <algorithm>
#include <chrono>
#include <cmath>

#include "model/io/file.h"
#include "train/grpo/rollout.h"
#include "train/grpo/trainer.h"
#include "train/objective/advantages.h"

// One step of the Trainer: experience, gradient, update, log.
namespace qgrpo::train {
namespace {

constexpr std::int32_t kPolicyAdapter = 0;
constexpr std::int64_t kPreflightStep = 0xffffffff;
constexpr std::int32_t kBaseReference = -1;    // the base model, adapter off
constexpr std::int32_t kAdapterReference = 1;  // the starting adapter, frozen

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

RolloutSettings rollout_settings(const TrainOptions& o, std::vector<std::int32_t> eos_ids) {
  RolloutSettings rollout;
  rollout.num_generations = o.sampling.num_generations;
  rollout.max_completion_length = o.sampling.max_completion_length;
  rollout.sampling.temperature = static_cast<float>(o.sampling.temperature);
  rollout.sampling.top_p = static_cast<float>(o.sampling.top_p);
  rollout.sampling.top_k = static_cast<std::int32_t>(o.sampling.top_k);
  rollout.sampling.min_p = static_cast<float>(o.sampling.min_p);
  rollout.sampling.repetition_penalty = static_cast<float>(o.sampling.repetition_penalty);
  rollout.eos_ids = std::move(eos_ids);
  rollout.adapter = kPolicyAdapter;
  rollout.seed = o.run.seed;
  rollout.logprobs_at_temperature_one = o.objective.loss_form == "then";
  return rollout;
}

UpdateSettings update_settings(const TrainOptions& o, std::span<const Group> groups) {
  const bool then_form = o.objective.loss_form == "then";
  UpdateSettings update;
  ObjectiveParams& params = update.objective.params;
  params.beta = static_cast<float>(o.objective.beta);
  params.epsilon_low = static_cast<float>(o.objective.epsilon);
  params.epsilon_high = static_cast<float>(o.objective.epsilon_high.value_or(o.objective.epsilon));
  params.has_delta = o.objective.delta.has_value();
  if (o.objective.delta) params.delta = static_cast<float>(*o.objective.delta);
  params.kl_bias_correction = o.objective.use_bias_correction_kl && !then_form;
  update.objective.type = parse_loss_type(o.objective.loss_type);
  update.objective.level = parse_importance_level(o.objective.importance_sampling_level);
  update.objective.top_entropy_quantile = o.objective.top_entropy_quantile;
  update.normalization.accumulation_steps = o.batch.gradient_accumulation_steps;
  update.normalization.max_completion_length = o.sampling.max_completion_length;
  std::int64_t tokens = 0;
  for (const Group& group : groups) {
    for (const auto& c : group.completions)
      tokens += c.counted ? static_cast<std::int64_t>(c.ids.size()) : 0;
  }
  update.normalization.step_tokens = static_cast<double>(tokens);
  update.groups_per_chunk = o.batch.prompts_per_step;
  update.temperature = then_form ? 1.0f : static_cast<float>(o.sampling.temperature);
  update.policy_adapter = kPolicyAdapter;
  update.reference_adapter = uses_reference_adapter(o) ? kAdapterReference : kBaseReference;
  return update;
}

// Advantages of all completions; which of them the loss counts.
Advantages set_advantages(Experience& experience, const TrainOptions& o) {
  std::vector<double> rewards;
  std::vector<std::size_t> sizes;
  for (const Group& group : experience.groups) {
    sizes.push_back(group.completions.size());
    for (const auto& c : group.completions) rewards.push_back(c.reward);
  }
  Advantages advantages = compute_advantages(
      rewards, sizes, parse_scale_rewards(o.objective.scale_rewards), Unscored::leave_out);
  std::size_t at = 0;
  for (Group& group : experience.groups) {
    for (auto& c : group.completions) {
      c.advantage = advantages.values[at++];
      c.counted = c.terminated || !o.objective.mask_truncated_completions;
    }
  }
  experience.frac_reward_zero_std = advantages.frac_reward_zero_std;
  return advantages;
}

}  // namespace

bool Trainer::starts_experience(std::int64_t step) const {
  return step % options_.objective.num_iterations == 0;
}

Group Trainer::group_of(const Example& example, std::int64_t& truncated) {
  PromptOptions prompt;
  if (options_.prompt.system_prompt) {
    prompt.system_prompt = *options_.prompt.system_prompt;
    prompt.system_prompt_given = true;
  }
  prompt.one_shot = options_.prompt.one_shot;
  Group group;
  group.question = example.question;
  group.answer = example.answer;
  group.columns = example.columns;
  group.prompt_json = prompt_json(example, prompt);
  group.prompt_ids = tokenizer_->encode(
      chat_template_->render(example_prompt(example, prompt), /*add_generation_prompt=*/true));
  if (truncate_prompt(group.prompt_ids,
                      static_cast<std::size_t>(options_.prompt.max_prompt_length)) > 0)
    ++truncated;
  return group;
}

// The next `count` groups of the data stream: prompts to sample for, or recorded groups whole.
std::vector<Group> Trainer::next_groups(Experience& experience, std::int64_t count) {
  std::vector<Group> groups;
  for (std::int64_t n = 0; n < count; ++n) {
    const std::uint64_t i = experience.data_position++;
    if (!recorded_.empty()) {
      groups.push_back(recorded_[i % recorded_.size()]);
      continue;
    }
    groups.push_back(group_of(examples_[cursor_->sample(i)], experience.prompts_truncated));
  }
  return groups;
}

bool Trainer::sample_and_score(std::int64_t step, std::span<Group> groups,
                               std::int64_t first_prompt) {
  const auto start = std::chrono::steady_clock::now();
  RolloutSettings rollout = rollout_settings(options_, model_->config().eos_token_ids);
  rollout.first_prompt = static_cast<std::uint32_t>(first_prompt);
  const std::string phase = step == kPreflightStep ? "preflight" : fmt::format("step {}", step + 1);
  const bool finished = sample_groups(
      *generator_, *tokenizer_, groups, static_cast<std::uint32_t>(step), rollout,
      [&](std::int64_t tokens) {
        const double seconds = seconds_since(start);
        console_.live(fmt::format("{}: sampling, {} tokens, {:.0f} tok/s", phase, tokens,
                                  static_cast<double>(tokens) / std::max(seconds, 1e-9)));
        return !stop_requested.load();
      });
  if (!finished) return false;
  RewardContext context;
  context.global_step = state_.global_step;
  context.max_steps = options_.run.max_steps;
  context.epoch = static_cast<double>(state_.data_position) / static_cast<double>(examples_.size());
  context.cancelled = [] { return stop_requested.load(); };
  RewardReport report;
  console_.live(phase + ": rewards");
  if (!scorer_->score(groups, context, &report)) return false;
  reward_metrics_ = std::move(report.metrics);
  if (report.unscored > 0)
    console_.line(fmt::format(
        "  {} completion(s) were scored by no reward, so their advantage is 0 (the first one's "
        "question: {}); expected at least one reward that does not skip",
        report.unscored, report.unscored_example));
  return true;
}

bool Trainer::preflight(std::span<const Group> groups) {
  Preflight report(scorer_->rewards());
  report.add(groups);
  Experience further;  // its groups are not trained on, and the data stream does not move
  further.data_position = groups.size();
  const auto wanted =
      std::min(options_.reward.preflight, static_cast<std::int64_t>(examples_.size()));
  const std::int64_t missing = wanted - static_cast<std::int64_t>(groups.size());
  if (missing > 0) {
    std::vector<Group> more = next_groups(further, missing);
    // A step that no run reaches: the run's own random numbers stay its own.
    if (!sample_and_score(kPreflightStep, more, 0)) return false;
    report.add(more);
  }
  console_.line(report.text(options_));
  io::write_file_atomically(options_.run.output_dir + "/preflight.json", report.json(options_));
  return true;
}

// Fills experience_ for a step; false when it was interrupted. Without dynamic sampling one round
// gives all groups. With it, groups without signal wait aside while further prompts are sampled,
// and make up the number where the rounds run out.
bool Trainer::collect(std::int64_t step) {
  Experience experience;
  experience.data_position = state_.data_position;
  const std::int64_t wanted =
      options_.batch.prompts_per_step * options_.batch.gradient_accumulation_steps;
  std::vector<Group> aside;
  std::int64_t sampled = 0;
  for (std::int64_t round = 0; round <= options_.objective.max_resample_batches; ++round) {
    const auto missing = wanted - static_cast<std::int64_t>(experience.groups.size());
    if (missing == 0) break;
    std::vector<Group> groups = next_groups(experience, missing);
    if (recorded_.empty() && !sample_and_score(step, groups, sampled)) return false;
    if (recorded_.empty() && step == 0 && round == 0 && options_.reward.preflight > 0) {
      const auto metrics = reward_metrics_;
      if (!preflight(groups)) return false;
      reward_metrics_ = metrics;
    }
    sampled += missing;
    for (Group& group : groups) {
      for (const auto& c : group.completions)
        experience.completion_tokens += static_cast<std::int64_t>(c.ids.size());
      const bool keep = !options_.objective.dynamic_sampling || rewards_differ(group);
      (keep ? experience.groups : aside).push_back(std::move(group));
    }
  }
  const auto missing = wanted - static_cast<std::int64_t>(experience.groups.size());
  experience.discarded_groups = static_cast<std::int64_t>(aside.size()) - missing;
  for (std::int64_t i = 0; i < missing; ++i)
    experience.groups.push_back(std::move(aside[static_cast<std::size_t>(i)]));
  set_advantages(experience, options_);
  experience_ = std::move(experience);
  return true;
}

bool Trainer::run_step(std::int64_t step) {
  const auto start = std::chrono::steady_clock::now();
  StepMetrics metrics;
  metrics.step = step + 1;
  metrics.max_steps = options_.run.max_steps;
  metrics.num_tokens = state_.num_tokens;

  const bool fresh = starts_experience(step);
  poison_pool();
  if (fresh && !collect(step)) return false;
  metrics.sampling_time = seconds_since(start);
  poison_pool();
  console_.live(fmt::format("step {}: training", step + 1));
  describe_groups(metrics, experience_, reward_names_, fresh);
  if (fresh) metrics.reward_metrics = reward_metrics_;

  TokenLogprobs logprobs;
  parameters_->zero_gradients();
  metrics.update =
      accumulate_policy_gradient(*pass_, *model_, parameters_->gradients(), experience_.groups,
                                 update_settings(options_, experience_.groups), &logprobs);
  metrics.has_kl = options_.objective.beta != 0.0;
  metrics.loss = metrics.update.loss;
  require(std::isfinite(metrics.loss),
          "step {}: the loss is not finite: the weights of the model or the adapter have diverged",
          step + 1);
  // After the first of several iterations the policy is no longer the one that sampled.
  if (fresh && options_.objective.logp_difference_limit > 0 && metrics.update.has_sampling) {
    require(metrics.update.logp_difference_mean <= options_.objective.logp_difference_limit,
            "step {}: the log-probs of sampling and training differ by {:.4f} on average, more "
            "than --logp-difference-limit {}; "
            "the run stops",
            step + 1, metrics.update.logp_difference_mean,
            options_.objective.logp_difference_limit);
  }

  metrics.grad_norm = optimizer_->gradient_norm();
  metrics.learning_rate = learning_rate_of(step);
  metrics.skipped = !std::isfinite(metrics.grad_norm);
  if (metrics.skipped) {
    ++state_.skipped_steps;
  } else {
    const double scale = options_.optimizer.max_grad_norm > 0
                             ? clip_coefficient(metrics.grad_norm, options_.optimizer.max_grad_norm)
                             : 1.0;
    optimizer_->step(metrics.learning_rate, scale);
    parameters_->publish();
  }
  if (fresh && options_.objective.num_iterations > 1) keep_old_logprobs(logprobs);
  metrics.skipped_steps = state_.skipped_steps;
  if (fresh) state_.prompts_truncated += experience_.prompts_truncated;
  metrics.prompts_truncated = state_.prompts_truncated;
  metrics.step_time = seconds_since(start);
  metrics.training_time = metrics.step_time - metrics.sampling_time;

  state_.global_step = step + 1;
  state_.data_position = experience_.data_position;
  state_.num_tokens = metrics.num_tokens;
  state_.optimizer_step = optimizer_->step_count();
  // A step whose completions no reward has scored is a gap that the curve bridges.
  const double before = state_.rewards.empty() ? 0.0 : state_.rewards.back();
  state_.rewards.push_back(std::isnan(metrics.reward) ? before : metrics.reward);
  step_times_.push_back(metrics.step_time);
  count_time();
  metrics.max_steps = options_.run.max_steps;
  log_step(metrics, fresh);
  return true;
}

// The log-probs of the policy that sampled: what later iterations take their ratios to.
void Trainer::keep_old_logprobs(const TokenLogprobs& logprobs) {
  for (std::size_t g = 0; g < experience_.groups.size(); ++g) {
    auto& completions = experience_.groups[g].completions;
    for (std::size_t c = 0; c < completions.size(); ++c)
      completions[c].old_logprobs = logprobs.policy[g][c];
  }
}

void Trainer::log_step(StepMetrics& metrics, bool fresh) {
  const std::string line = metrics_json(metrics);
  metrics_log_->append(line);
  trackers_->log(metrics.step, line);
  if (recorded_.empty() && fresh) {
    for (const Group& group : experience_.groups) {
      for (const auto& c : group.completions)
        completions_log_->append(completion_json(metrics.step, group, c, reward_names_));
    }
  }
  state_.metrics_offset = metrics_log_->size();
  state_.completions_offset = completions_log_->size();
  // The time left from the latest steps: the first ones are not typical.
  const std::size_t recent = std::min<std::size_t>(step_times_.size(), 20);
  double sum = 0.0;
  for (std::size_t i = step_times_.size() - recent; i < step_times_.size(); ++i)
    sum += step_times_[i];
  const double left = sum / static_cast<double>(recent) *
                      static_cast<double>(options_.run.max_steps - metrics.step);
  console_.step(metrics, state_.rewards, left);
  if (metrics.prompts_truncated > truncated_prompts_shown_) {
    console_.line(fmt::format(
        "  {} prompt(s) so far were longer than --max-prompt-length {} and were cut on the left",
        metrics.prompts_truncated, options_.prompt.max_prompt_length));
    truncated_prompts_shown_ = metrics.prompts_truncated;
  }
  if (recorded_.empty() && options_.sample_steps > 0 &&
      (metrics.step == 1 || metrics.step % options_.sample_steps == 0)) {
    console_.sample(metrics.step, experience_.groups.front());
  }
}

}  // namespace qgrpo::train
