#include "train/reward/scorer.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "model/io/json.h"
#include "model/ops/error.h"

namespace qgrpo::train {
namespace {

std::string prompt_json(const Group& group) {
  if (!group.prompt_json.empty()) return group.prompt_json;
  return fmt::format("[{{\"role\":\"user\",\"content\":{}}}]", io::json_string(group.question));
}

// The columns that any group has, in the order in which they appear.
std::vector<std::string> column_names(std::span<const Group> groups) {
  std::vector<std::string> names;
  for (const Group& group : groups) {
    for (const auto& [name, value] : group.columns) {
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  }
  return names;
}

std::string_view column_value(const Group& group, const std::string& name) {
  const auto found = std::find_if(group.columns.begin(), group.columns.end(),
                                  [&](const Column& c) { return c.first == name; });
  return found == group.columns.end() ? std::string_view("null") : std::string_view(found->second);
}

}  // namespace

std::string reward_request(std::span<const Group> groups, const RewardContext& context) {
  io::JsonWriter w;
  w.begin_object();
  // Writes an array with one item a completion.
  const auto array = [&](std::string_view key, auto&& item) {
    w.key(key);
    w.begin_array();
    for (const Group& group : groups) {
      for (const GroupCompletion& completion : group.completions) item(group, completion);
    }
    w.end_array();
  };
  array("prompts", [&](const Group& g, const GroupCompletion&) { w.raw(prompt_json(g)); });
  array("completions", [&](const Group&, const GroupCompletion& c) { w.value(c.text); });
  array("completion_ids", [&](const Group&, const GroupCompletion& c) { w.value(c.ids); });
  w.key("columns");
  w.begin_object();
  for (const std::string& name : column_names(groups)) {
    array(name, [&](const Group& g, const GroupCompletion&) { w.raw(column_value(g, name)); });
  }
  w.end_object();
  w.key("trainer_state");
  w.begin_object();
  w.member("global_step", context.global_step);
  w.member("max_steps", context.max_steps);
  w.member("epoch", context.epoch);
  w.end_object();
  w.end_object();
  return w.str().substr(1, w.str().size() - 2);
}

RewardScorer::RewardScorer(std::vector<Reward> rewards, const RewardHostSettings& settings)
    : rewards_(std::move(rewards)) {
  std::vector<std::size_t> python;
  for (std::size_t i = 0; i < rewards_.size(); ++i) {
    if (rewards_[i].kind == RewardKind::python) python.push_back(i);
    if (rewards_[i].kind == RewardKind::command)
      hosts_.push_back(std::make_unique<Host>(Host{RewardHost({rewards_[i]}, settings), {i}}));
  }
  if (python.empty()) return;
  std::vector<Reward> functions;
  for (const std::size_t i : python) functions.push_back(rewards_[i]);
  hosts_.push_back(std::make_unique<Host>(Host{RewardHost(functions, settings), python}));
}

std::vector<std::string> RewardScorer::names() const {
  std::vector<std::string> names;
  for (const Reward& reward : rewards_) names.push_back(reward.name);
  return names;
}

bool RewardScorer::score(std::span<Group> groups, const RewardContext& context,
                         RewardReport* report) {
  std::vector<GroupCompletion*> completions;
  for (Group& group : groups) {
    for (GroupCompletion& completion : group.completions) completions.push_back(&completion);
  }
  const std::size_t count = completions.size();
  // One row a reward.
  std::vector<std::vector<double>> values(
      rewards_.size(), std::vector<double>(count, std::numeric_limits<double>::quiet_NaN()));
  std::vector<std::vector<Column>> extra(count);
  RewardReport found;
  if (count > 0 && !hosts_.empty()) {
    const std::string request = reward_request(groups, context);
    for (const auto& host : hosts_) {
      auto answer = host->process.call(request, count, context.cancelled);
      if (!answer) return false;
      require(answer->values.size() == host->rewards.size(),
              "a reward host answered for {} rewards, expected {}", answer->values.size(),
              host->rewards.size());
      for (std::size_t r = 0; r < host->rewards.size(); ++r)
        values[host->rewards[r]] = std::move(answer->values[r]);
      for (const auto& [name, column] : answer->extra) {
        require(column.size() == count, "log_extra '{}' has {} values for {} completions", name,
                column.size(), count);
        for (std::size_t i = 0; i < count; ++i) extra[i].emplace_back(name, column[i]);
      }
      for (const auto& [name, value] : answer->metrics) found.metrics[name] = value;
    }
  }
  std::size_t at = 0;
  for (Group& group : groups) {
    for (GroupCompletion& completion : group.completions) {
      completion.reward_values.clear();
      for (std::size_t r = 0; r < rewards_.size(); ++r) {
        const RewardFunction function = rewards_[r].function;
        completion.reward_values.push_back(
            function != nullptr ? function(completion.text, group.answer) : values[r][at]);
      }
      completion.reward = weighted_total(rewards_, completion.reward_values);
      completion.extra = std::move(extra[at]);
      if (std::isnan(completion.reward) && found.unscored++ == 0)
        found.unscored_example = group.question;
      ++at;
    }
  }
  if (report != nullptr) *report = std::move(found);
  return true;
}

}  // namespace qgrpo::train
