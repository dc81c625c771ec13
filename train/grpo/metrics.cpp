#include "train/grpo/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string_view>

#include "model/io/json.h"
#include "model/ops/error.h"

namespace qgrpo::train {

namespace {

const std::string kMetricPrefix = "log_metric/";

// The mean of what is scored; NaN, in JSON null, where every completion was skipped.
double mean_of_scored(const std::vector<double>& values) {
  const bool any =
      std::any_of(values.begin(), values.end(), [](double v) { return !std::isnan(v); });
  return any || values.empty() ? mean_of(values) : std::numeric_limits<double>::quiet_NaN();
}

LengthStatistics length_statistics(const std::vector<double>& lengths) {
  if (lengths.empty()) return {};
  const auto [least, most] = std::minmax_element(lengths.begin(), lengths.end());
  return {mean_of(lengths), *least, *most};
}

}  // namespace

void describe_groups(StepMetrics& m, const Experience& experience,
                     std::span<const std::string> reward_names, bool fresh) {
  std::vector<double> totals;
  std::vector<double> lengths;
  std::vector<double> terminated;
  std::vector<std::vector<double>> by_function(reward_names.size());
  for (const Group& group : experience.groups) {
    for (const auto& c : group.completions) {
      totals.push_back(c.reward);
      lengths.push_back(static_cast<double>(c.ids.size()));
      if (c.terminated) terminated.push_back(lengths.back());
      for (std::size_t f = 0; f < c.reward_values.size() && f < by_function.size(); ++f) {
        by_function[f].push_back(c.reward_values[f]);
      }
      if (fresh) m.num_tokens += static_cast<std::int64_t>(group.prompt_ids.size() + c.ids.size());
    }
  }
  m.reward = mean_of_scored(totals);
  m.reward_std = unbiased_std(totals);
  m.frac_reward_zero_std = experience.frac_reward_zero_std;
  if (fresh) {
    m.completion_tokens = experience.completion_tokens;
    m.discarded_groups = experience.discarded_groups;
  }
  for (std::size_t f = 0; f < reward_names.size(); ++f) {
    m.rewards.push_back(
        {reward_names[f], mean_of_scored(by_function[f]), unbiased_std(by_function[f])});
  }
  m.length = length_statistics(lengths);
  m.terminated_length = length_statistics(terminated);
  m.clipped_ratio =
      1.0 - static_cast<double>(terminated.size()) / static_cast<double>(lengths.size());
}

std::string metrics_json(const StepMetrics& m) {
  io::JsonWriter w;
  w.begin_object();
  w.member("step", m.step);
  w.member("loss", m.loss);
  w.member("grad_norm", m.grad_norm);
  w.member("learning_rate", m.learning_rate);
  w.member("num_tokens", m.num_tokens);
  w.member("reward", m.reward);
  w.member("reward_std", m.reward_std);
  w.member("frac_reward_zero_std", m.frac_reward_zero_std);
  w.member("discarded_groups", m.discarded_groups);
  w.member("skipped_groups", m.update.skipped_groups);
  for (const RewardStatistics& reward : m.rewards) {
    w.member("rewards/" + reward.name + "/mean", reward.mean);
    w.member("rewards/" + reward.name + "/std", reward.std);
  }
  for (const auto& [name, value] : m.reward_metrics) w.member(name, value);
  if (m.has_kl) w.member("kl", m.update.kl);
  w.member("entropy", m.update.entropy);
  w.member("completions/mean_length", m.length.mean);
  w.member("completions/min_length", m.length.min);
  w.member("completions/max_length", m.length.max);
  w.member("completions/mean_terminated_length", m.terminated_length.mean);
  w.member("completions/min_terminated_length", m.terminated_length.min);
  w.member("completions/max_terminated_length", m.terminated_length.max);
  w.member("completions/clipped_ratio", m.clipped_ratio);
  w.member("clip_ratio/low_mean", m.update.clip_low_mean);
  w.member("clip_ratio/low_min", m.update.clip_low_min);
  w.member("clip_ratio/high_mean", m.update.clip_high_mean);
  w.member("clip_ratio/high_max", m.update.clip_high_max);
  w.member("clip_ratio/region_mean", m.update.clip_region_mean);
  if (m.update.has_sampling) {
    w.member("sampling/sampling_logp_difference/mean", m.update.logp_difference_mean);
    w.member("sampling/sampling_logp_difference/max", m.update.logp_difference_max);
    w.member("sampling/importance_sampling_ratio/min", m.update.ratio_min);
    w.member("sampling/importance_sampling_ratio/mean", m.update.ratio_mean);
    w.member("sampling/importance_sampling_ratio/max", m.update.ratio_max);
  }
  w.member("prompts_truncated", m.prompts_truncated);
  w.member("skipped_steps", m.skipped_steps);
  w.member("step_time", m.step_time);
  w.member("step_time/sampling", m.sampling_time);
  w.member("step_time/training", m.training_time);
  write_speed(w, "", m.step_speed);
  write_speed(w, "/sampling", m.sampling_speed);
  write_speed(w, "/training", m.training_speed);
  w.end_object();
  return w.str();
}

std::map<std::string, double> with_free_names(const std::map<std::string, double>& metrics,
                                              std::span<const std::string> reward_names,
                                              std::string& renamed) {
  if (metrics.empty()) return {};
  StepMetrics all;
  all.has_kl = all.update.has_sampling = true;
  all.step_speed = all.sampling_speed = all.training_speed = {1.0, 1.0, 1.0};
  for (const std::string& name : reward_names) all.rewards.push_back({name});
  io::JsonDocument document;
  const io::JsonValue line = document.parse(metrics_json(all), "a step's metrics");
  std::map<std::string, double> out;
  std::vector<std::string> taken;
  for (const auto& [name, value] : metrics) {
    const bool free = !line.find(name) && !name.starts_with("eval_");
    if (!free) taken.push_back(name);
    out[free ? name : kMetricPrefix + name] = value;
  }
  if (!taken.empty()) {
    renamed = fmt::format(
        "a reward logs {} with log_metric, which a step has itself: as {}{} in "
        "metrics.jsonl",
        fmt::join(taken, ", "), kMetricPrefix, taken.front());
  }
  return out;
}

namespace {

std::vector<std::string> token_texts(std::span<const std::int32_t> ids,
                                     const tokenizer::Tokenizer& tokenizer) {
  tokenizer::StreamDecoder decoder(tokenizer);
  std::vector<std::string> out;
  for (const std::int32_t id : ids) out.push_back(decoder.push(id));
  if (!out.empty()) out.back() += decoder.flush();
  return out;
}

}  // namespace

std::string completion_json(std::int64_t step, const Group& group, const GroupCompletion& c,
                            std::span<const std::string> reward_names,
                            const tokenizer::Tokenizer* tokenizer) {
  io::JsonWriter w;
  w.begin_object();
  w.member("step", step);
  w.member("prompt", group.question);
  w.member("completion", c.text);
  w.member("answer", group.answer);
  std::set<std::string_view> taken = {"step",   "prompt",    "completion", "answer",
                                      "reward", "advantage", "length",     "terminated"};
  if (tokenizer != nullptr) taken.insert({"tokens", "logprobs"});
  for (std::size_t f = 0; f < reward_names.size() && f < c.reward_values.size(); ++f) {
    const std::string& name = reward_names[f];
    w.member(taken.insert(name).second ? name : "rewards/" + name, c.reward_values[f]);
  }
  for (const auto& [name, value] : c.extra) {
    w.key(taken.insert(name).second ? name : "log_extra/" + name);
    w.raw(value);
  }
  w.member("reward", c.reward);
  w.member("advantage", c.advantage);
  w.member("length", static_cast<std::int64_t>(c.ids.size()));
  w.member("terminated", c.terminated);
  if (tokenizer != nullptr) {
    w.member("tokens", token_texts(c.ids, *tokenizer));
    w.member("logprobs", c.sampling_logprobs);
  }
  w.end_object();
  return w.str();
}

}  // namespace qgrpo::train
