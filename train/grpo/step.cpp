#include <algorithm>
#include <chrono>
#include <cmath>

#include "model/io/file.h"
#include "model/ops/error.h"
#include "train/grpo/canary.h"
#include "train/grpo/preflight.h"
#include "train/grpo/rollout.h"
#include "train/grpo/settings.h"
#include "train/grpo/trainer.h"
#include "train/run/stop.h"

// One optimizer step of GRPO (DeepSeekMath, Shao et al. 2024, algorithm 1), and below it what its
// parts are told.
namespace qgrpo::train {
namespace {

// Random draws of the preflight's prompts: a step that no run reaches, so that its own stay its own.
constexpr std::int64_t kPreflightStep = 0xffffffff;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::vector<GroupLengths> lengths_of(std::span<const Group> groups) {
  std::vector<GroupLengths> lengths;
  for (const Group& group : groups) {
    GroupLengths& of = lengths.emplace_back();
    of.prompt = std::ssize(group.prompt_ids);
    for (const GroupCompletion& c : group.completions) of.completions.push_back(std::ssize(c.ids));
  }
  return lengths;
}

std::string phase_name(std::int64_t step) {
  return step == kPreflightStep ? "preflight" : fmt::format("step {}", step + 1);
}

}  // namespace

std::optional<StepOutcome> GrpoTrainer::step(const StepContext& context) {
  const auto start = std::chrono::steady_clock::now();
  StepRecord record;
  record.fresh = begins_round(context.step);
  record.learning_rate = context.learning_rate;
  if (record.fresh) {
    check_published(policy_->model(), policy_->adapter(), kPolicyAdapter, context.step);
    ExperienceBuilder round(options_, run_.state().data_position);
    while (round.missing() > 0) {  // once; with dynamic sampling until every group has a signal
      // prompts -> completions -> rewards
      std::vector<Group> groups = round.take_prompts(source_);
      if (!sample(groups, context.step, round.sampled(), record.sampling)) return std::nullopt;
      if (!score(groups, phase_name(context.step))) return std::nullopt;
      if (context.step == 0 && round.sampled() == 0 && !preflight(groups)) return std::nullopt;
      round.add(std::move(groups));
    }
    experience_ = round.finish();
    if (inputs_.replay()) check_rewards(experience_.groups, {});
    // rewards -> group-relative advantages
    set_advantages(experience_, options_.objective);
  }
  record.sampling_seconds = seconds_since(start);

  // advantages -> gradient of the objective, through the model
  const auto training_start = std::chrono::steady_clock::now();
  console_.live(phase_name(context.step) + ": training");
  policy_->begin_phase();
  policy_->parameters().zero_gradients();
  TokenLogprobs logprobs;
  record.gradient = accumulate_policy_gradient(
      policy_->pass(), policy_->model(), policy_->parameters().gradients(), experience_.groups,
      update_settings(options_, experience_.groups), &logprobs);
  check(record, context.step);
  note_difference(record, context.step);

  // gradient -> clip -> AdamW
  record.update =
      update_parameters(policy_->optimizer(), policy_->parameters(), record.gradient.loss,
                        context.learning_rate, options_.optimizer.max_grad_norm);
  record.training = training_speed(seconds_since(training_start));
  // Later steps on the same completions take their ratios to the policy that sampled them.
  if (record.fresh && options_.objective.num_iterations > 1) {
    keep_old_logprobs(experience_, logprobs);
  }
  return count(record);
}

// num_generations completions for each prompt. Recorded groups have theirs.
bool GrpoTrainer::sample(std::span<Group> groups, std::int64_t step, std::int64_t first_prompt,
                         PhaseSpeed& speed) {
  if (inputs_.replay()) return true;
  const auto start = std::chrono::steady_clock::now();
  policy_->begin_phase();
  RolloutSettings rollout = rollout_settings(options_, inputs_.eos_ids);
  rollout.first_prompt = static_cast<std::uint32_t>(first_prompt);
  const auto progress = [&](std::int64_t tokens) {
    const double rate = static_cast<double>(tokens) / std::max(seconds_since(start), 1e-9);
    console_.live(
        fmt::format("{}: sampling, {} tokens, {:.0f} tok/s", phase_name(step), tokens, rate));
    return !stop_requested.load();
  };
  if (!sample_groups(policy_->generator(), *inputs_.tokenizer, groups,
                     static_cast<std::uint32_t>(step), rollout, progress)) {
    return false;
  }
  speed.seconds += seconds_since(start);
  const std::vector<GroupLengths> lengths = lengths_of(groups);
  for (const GroupLengths& group : lengths) {
    for (const std::int64_t length : group.completions) speed.tokens += static_cast<double>(length);
  }
  if (peak_.known()) speed.least_seconds += sampling_seconds(work_, peak_, lengths);
  return true;
}

// Of the update that took so long. Groups that add nothing to it are left out of it.
PhaseSpeed GrpoTrainer::training_speed(double seconds) const {
  const bool reference = options_.objective.beta != 0.0;
  std::vector<GroupLengths> lengths = lengths_of(experience_.groups);
  for (std::size_t g = 0; g < lengths.size(); ++g) {
    if (!reference && !has_signal(experience_.groups[g])) lengths[g].completions.clear();
  }
  const TrainingWork work = training_work(lengths, reference);
  PhaseSpeed speed{work.tokens, seconds};
  if (peak_.known()) speed.least_seconds = training_seconds(work_, peak_, work);
  return speed;
}

// Every reward of every completion. Recorded groups have theirs.
bool GrpoTrainer::score(std::span<Group> groups, std::string_view phase) {
  if (inputs_.replay()) return true;
  console_.live(fmt::format("{}: rewards", phase));
  RewardContext context;
  context.global_step = run_.state().global_step;
  context.max_steps = run_.max_steps();
  context.epoch = static_cast<double>(run_.state().data_position) /
                  static_cast<double>(inputs_.examples.size());
  context.cancelled = [] { return stop_requested.load(); };
  RewardReport report;
  if (!inputs_.scorer->score(groups, context, &report)) return false;
  check_rewards(groups, inputs_.scorer->rewards());
  std::string renamed;
  reward_metrics_ = with_free_names(report.metrics, inputs_.reward_names(), renamed);
  if (!renamed.empty() && !names_told_) console_.line("  " + renamed);
  names_told_ = names_told_ || !renamed.empty();
  if (report.unscored > 0) {
    console_.line(fmt::format(
        "  {} completion(s) were scored by no reward, so their advantage is 0 (the first one's "
        "question: {}); expected at least one reward that does not skip",
        report.unscored, report.unscored_example));
  }
  return true;
}

// Describes the first step's first groups, and further prompts' until there are enough, before
// anything is learned.
bool GrpoTrainer::preflight(std::span<const Group> groups) {
  if (inputs_.replay() || options_.reward.preflight == 0) return true;
  Preflight report(inputs_.scorer->rewards());
  report.add(groups);
  const auto wanted = std::min(options_.reward.preflight, std::ssize(inputs_.examples));
  const std::int64_t missing = wanted - std::ssize(groups);
  if (missing > 0) {
    // They are not trained on, and neither the data stream moves nor what the step will log.
    std::uint64_t position = groups.size();
    std::int64_t truncated = 0;
    const auto metrics = reward_metrics_;
    std::vector<Group> more = source_.take(missing, position, truncated);
    PhaseSpeed not_of_the_step;
    if (!sample(more, kPreflightStep, 0, not_of_the_step)) return false;
    if (!score(more, phase_name(kPreflightStep))) return false;
    reward_metrics_ = metrics;
    report.add(more);
  }
  console_.line(report.text(options_));
  io::write_file_atomically(options_.run.output_dir + "/preflight.json", report.json(options_));
  return true;
}

// Ends the run before an update that could only do harm. A loss that is not finite is not one: it
// updates nothing.
void GrpoTrainer::check(const StepRecord& record, std::int64_t step) const {
  if (!std::isfinite(record.gradient.loss)) return;
  // After the first of several iterations the policy is no longer the one that sampled.
  const double limit = options_.objective.logp_difference_limit;
  if (!record.fresh || limit == 0 || !record.gradient.has_sampling) return;
  if (record.gradient.logp_difference_mean <= limit) return;
  throw Diverged(fmt::format(
      "step {}: the log-probs of sampling and training differ by {:.4f} on average, more than "
      "--logp-difference-limit {}; the run stops",
      step + 1, record.gradient.logp_difference_mean, limit));
}

// Where activations are float32, sampling and training promise the same bits.
void GrpoTrainer::note_difference(const StepRecord& record, std::int64_t step) {
  const bool same = policy_->model().backend().activation_dtype() != DType::f32 || !record.fresh ||
                    inputs_.replay() || record.gradient.logp_difference_max == 0.0;
  if (same || difference_noted_) return;
  difference_noted_ = true;
  console_.line(fmt::format(
      "  note: step {}: the log-probs of sampling and training differ by up to {:.2g}, though this "
      "backend promises the same bits: please report it (the run goes on)",
      step + 1, record.gradient.logp_difference_max));
}

// The step is done: its part of the run's state.
StepOutcome GrpoTrainer::count(const StepRecord& record) {
  record_ = record;
  metrics_ = StepMetrics();
  describe_groups(metrics_, experience_, inputs_.reward_names(), record_.fresh);
  if (record_.fresh) metrics_.reward_metrics = reward_metrics_;
  TrainerState& state = run_.state();
  state.data_position = experience_.data_position;
  if (record_.fresh) state.prompts_truncated += experience_.prompts_truncated;
  // A step whose completions no reward has scored is a gap that the curve bridges.
  const double before = state.rewards.empty() ? 0.0 : state.rewards.back();
  state.rewards.push_back(std::isnan(metrics_.reward) ? before : metrics_.reward);
  return {.tokens = metrics_.num_tokens,
          .skipped = record_.update.skipped,
          .unsound = !std::isfinite(record_.gradient.loss),
          .broken = record_.update.broken};
}

}  // namespace qgrpo::train
