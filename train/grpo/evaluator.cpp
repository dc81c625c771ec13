#include "train/grpo/evaluator.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "model/io/hash.h"
#include "model/io/json.h"
#include "train/data/prompt.h"
#include "train/eval/statistics.h"
#include "train/reward/rewards.h"

namespace qgrpo::train {
namespace {

// What the best checkpoint is chosen by: the named metric, then the other one.
std::pair<double, double> rank(const EvaluationOptions& o, double accuracy, double reward) {
  return o.metric_for_best_model == BestMetric::reward ? std::pair{reward, accuracy}
                                                       : std::pair{accuracy, reward};
}

std::vector<Example> read_questions(const TrainOptions& options) {
  DatasetOptions columns = dataset_options(options.data);
  columns.answer_required = true;
  std::vector<Example> examples;
  if (!options.eval.eval_dataset.empty()) {
    examples = read_dataset(options.eval.eval_dataset, columns);
  } else {
    examples = split_dataset(read_dataset(options.data.dataset, columns), options.data.train_split,
                             options.run.seed)
                   .held_out;
  }
  const auto limit = static_cast<std::size_t>(options.eval.eval_limit);
  if (limit > 0 && limit < examples.size()) examples.resize(limit);
  return examples;
}

}  // namespace

Evaluator::Evaluator(const TrainOptions& options, const GrpoInputs& inputs)
    : options_(&options), inputs_(&inputs) {
  if (options.eval.eval_every == 0) return;
  EvaluationSettings settings;
  settings.prompt = prompt_options(options.prompt);
  settings.max_prompt_length = options.prompt.max_prompt_length;
  groups_ = question_groups(*inputs.tokenizer, *inputs.chat_template, read_questions(options),
                            settings, truncated_);
  io::Hash64 hash;
  for (const std::string& text :
       {std::string(kAnswerMatchNames.name(options.eval.eval_match)),
        std::string(kBestMetricNames.name(options.eval.metric_for_best_model)),
        fmt::to_string(fmt::join(options.reward.rewards, ","))})
    hash.add(text.data(), text.size());
  const std::int64_t length = options.sampling.max_completion_length;
  hash.add(&length, sizeof length);
  for (const Group& group : groups_) {
    hash.add(group.prompt_ids.data(), group.prompt_ids.size() * sizeof(std::int32_t));
    hash.add(group.answer.data(), group.answer.size());
  }
  fingerprint_ = hash.value();
}

bool Evaluator::due(const TrainerState& state, std::int64_t max_steps) const {
  const std::int64_t step = state.global_step;
  const std::int64_t every = options_->eval.eval_every;
  if (every == 0 || step == 0 || step == state.last_eval_step) return false;
  return step % every == 0 || step == max_steps;
}

std::optional<Evaluator::Result> Evaluator::evaluate(
    Policy& policy, const TrainerState& state,
    const std::function<bool(std::size_t)>& progress) const {
  const auto start = std::chrono::steady_clock::now();
  policy.begin_phase();
  EvaluationSettings settings;
  settings.max_completion_length = options_->sampling.max_completion_length;
  settings.adapter = kPolicyAdapter;
  settings.eos_ids = inputs_->eos_ids;
  std::vector<Group> groups = groups_;
  const bool finished =
      answer_questions(policy.generator(), *inputs_->tokenizer, groups, settings,
                       [&](std::size_t questions, std::int64_t) { return progress(questions); });
  if (!finished) return std::nullopt;
  std::vector<Reward> built_in;
  for (const Reward& reward : parse_rewards(options_->reward.rewards)) {
    if (reward.kind == RewardKind::built_in) built_in.push_back(reward);
  }
  for (Group& group : groups) {
    for (GroupCompletion& c : group.completions) {
      if (!built_in.empty()) c.reward = score(built_in, c.text, group.answer).total;
    }
  }
  Result result;
  result.found = judge(groups, options_->eval.eval_match);
  result.total = std::ssize(groups);
  result.right = std::count_if(result.found.questions.begin(), result.found.questions.end(),
                               [](const JudgedQuestion& q) { return q.any_correct; });
  const Interval interval = wilson_interval(result.right, result.total);
  result.low = interval.low;
  result.high = interval.high;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.best =
      !state.best_metric || rank(options_->eval, result.found.accuracy, result.found.mean_reward) >
                                rank(options_->eval, *state.best_metric, state.best_reward);
  return result;
}

std::string evaluation_json(std::int64_t step, const Evaluator::Result& result) {
  io::JsonWriter w;
  w.begin_object();
  w.member("step", step);
  w.member("eval_accuracy", result.found.accuracy);
  w.member("eval_accuracy_interval", std::vector<double>{result.low, result.high});
  w.member("eval_reward", result.found.mean_reward);
  w.member("eval_completions/mean_length", result.found.mean_length);
  w.member("eval_completions/clipped_ratio", result.found.clipped_ratio);
  w.member("eval_samples", result.total);
  w.member("eval_runtime", result.seconds);
  w.end_object();
  return w.str();
}

std::string evaluation_text(const Evaluator::Result& result) {
  return fmt::format(
      "  eval: {}/{} right = {:.1f} % (95 % interval {:.1f} to {:.1f} %), reward {:.3f}{}",
      result.right, result.total, 100 * result.found.accuracy, 100 * result.low, 100 * result.high,
      result.found.mean_reward, result.best ? ", the best so far" : "");
}

}  // namespace qgrpo::train
