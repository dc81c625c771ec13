#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

#include "model/io/hash.h"
#include "model/io/json.h"
#include "train/eval/evaluate.h"
#include "train/eval/statistics.h"
#include "train/grpo/trainer.h"

// Evaluation during a run: greedy answers to questions that are not trained on, and the best
// checkpoint. It draws no random number, calls no reward of the user's (which may keep state), and
// works in the memory of the sampling: the run is bit for bit the one without it.
namespace qgrpo::train {
namespace {

constexpr std::int32_t kPolicyAdapter = 0;

// What the best checkpoint is chosen by: the named metric, then the other one.
std::pair<double, double> rank(const TrainOptions& o, double accuracy, double reward) {
  return o.eval.metric_for_best_model == "reward" ? std::pair{reward, accuracy}
                                                  : std::pair{accuracy, reward};
}

}  // namespace

// The questions: those of --eval-dataset, or those that --train-split has left out.
void Trainer::load_evaluation() {
  if (options_.eval.eval_every == 0) return;
  DatasetOptions columns;
  columns.prompt_column = options_.data.prompt_column;
  columns.answer_column = options_.data.answer_column;
  columns.answer_format = options_.data.answer_format;
  columns.answer_required = true;
  std::vector<Example> examples;
  if (!options_.eval.eval_dataset.empty()) {
    examples = read_dataset(options_.eval.eval_dataset, columns);
  } else {
    examples = split_dataset(read_dataset(options_.data.dataset, columns),
                             options_.data.train_split, options_.run.seed)
                   .held_out;
  }
  if (options_.eval.eval_limit > 0 &&
      static_cast<std::size_t>(options_.eval.eval_limit) < examples.size())
    examples.resize(static_cast<std::size_t>(options_.eval.eval_limit));
  EvaluationSettings settings;
  if (options_.prompt.system_prompt) settings.prompt.system_prompt = *options_.prompt.system_prompt;
  settings.prompt.system_prompt_given = options_.prompt.system_prompt.has_value();
  settings.prompt.one_shot = options_.prompt.one_shot;
  settings.max_prompt_length = options_.prompt.max_prompt_length;
  std::int64_t truncated = 0;
  eval_groups_ = question_groups(*tokenizer_, *chat_template_, examples, settings, truncated);
  io::Hash64 hash;
  for (const std::string& text : {options_.eval.eval_match, options_.eval.metric_for_best_model,
                                  fmt::to_string(fmt::join(options_.reward.rewards, ","))})
    hash.add(text.data(), text.size());
  hash.add(&options_.sampling.max_completion_length,
           sizeof options_.sampling.max_completion_length);
  for (const Group& group : eval_groups_) {
    hash.add(group.prompt_ids.data(), group.prompt_ids.size() * sizeof(std::int32_t));
    hash.add(group.answer.data(), group.answer.size());
  }
  state_.eval_fingerprint = hash.value();
  if (truncated > 0) {
    console_.line(fmt::format(
        "  {} question(s) of the evaluation are longer than --max-prompt-length {} and are cut",
        truncated, options_.prompt.max_prompt_length));
  }
}

// The best of other questions, or by another measure, cannot be compared with.
void Trainer::forget_best() {
  console_.line(
      fmt::format("the evaluation is another one than before: {} is no longer compared with",
                  state_.best_model_checkpoint));
  state_.best_metric.reset();
  state_.best_reward = 0.0;
  state_.best_global_step = 0;
  state_.best_model_checkpoint.clear();
  state_.last_eval_step = 0;
}

bool Trainer::evaluation_due() const {
  const std::int64_t step = state_.global_step;
  if (options_.eval.eval_every == 0 || step == 0 || step == state_.last_eval_step) return false;
  return step % options_.eval.eval_every == 0 || step == options_.run.max_steps;
}

// Whether this is the best so far; nothing where it was interrupted.
std::optional<bool> Trainer::evaluate_policy() {
  const auto start = std::chrono::steady_clock::now();
  poison_pool();
  EvaluationSettings settings;
  settings.max_completion_length = options_.sampling.max_completion_length;
  settings.adapter = kPolicyAdapter;
  std::vector<Group> groups = eval_groups_;
  const bool finished = answer_questions(
      *generator_, model_->config(), *tokenizer_, groups, settings,
      [&](std::size_t questions, std::int64_t) {
        console_.live(fmt::format("evaluating: {} of {} questions", questions, groups.size()));
        return !stop_requested.load();
      });
  if (!finished) return std::nullopt;
  std::vector<Reward> built_in;
  for (const Reward& reward : parse_rewards(options_.reward.rewards)) {
    if (reward.kind == RewardKind::built_in) built_in.push_back(reward);
  }
  for (Group& group : groups) {
    for (GroupCompletion& c : group.completions) {
      if (!built_in.empty()) c.reward = score(built_in, c.text, group.answer).total;
    }
  }
  const Evaluation found = judge(groups, parse_answer_match(options_.eval.eval_match));
  const auto total = static_cast<std::int64_t>(groups.size());
  const auto right = static_cast<std::int64_t>(
      std::count_if(found.questions.begin(), found.questions.end(),
                    [](const JudgedQuestion& q) { return q.any_correct; }));
  const Interval interval = wilson_interval(right, total);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;

  const bool best =
      !state_.best_metric || rank(options_, found.accuracy, found.mean_reward) >
                                 rank(options_, *state_.best_metric, state_.best_reward);
  io::JsonWriter w;
  w.begin_object();
  w.member("step", state_.global_step);
  w.member("eval_accuracy", found.accuracy);
  w.member("eval_accuracy_interval", std::vector<double>{interval.low, interval.high});
  w.member("eval_reward", found.mean_reward);
  w.member("eval_completions/mean_length", found.mean_length);
  w.member("eval_completions/clipped_ratio", found.clipped_ratio);
  w.member("eval_samples", total);
  w.member("eval_runtime", seconds.count());
  w.end_object();
  metrics_log_->append(w.str());
  trackers_->log(state_.global_step, w.str());
  state_.metrics_offset = metrics_log_->size();
  state_.last_eval_step = state_.global_step;
  console_.line(fmt::format(
      "  eval: {}/{} right = {:.1f} % (95 % interval {:.1f} to {:.1f} %), reward {:.3f}{}", right,
      total, 100 * found.accuracy, 100 * interval.low, 100 * interval.high, found.mean_reward,
      best ? ", the best so far" : ""));
  if (best) {
    superseded_best_ = state_.best_global_step;
    state_.best_metric = found.accuracy;
    state_.best_reward = found.mean_reward;
    state_.best_global_step = state_.global_step;
    state_.best_model_checkpoint = checkpoint_path(options_.run.output_dir, state_.global_step);
  }
  return best;
}

// A checkpoint that was kept only because it was the best is not needed once another one is.
void Trainer::drop_superseded_best() {
  const std::int64_t step = superseded_best_;
  superseded_best_ = 0;
  if (step == 0 || step == state_.best_global_step || step == state_.global_step) return;
  if (options_.run.save_steps > 0 && step % options_.run.save_steps == 0)
    return;  // pruned in its turn
  std::error_code error;
  std::filesystem::remove_all(checkpoint_path(options_.run.output_dir, step), error);
}

}  // namespace qgrpo::train
