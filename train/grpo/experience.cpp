#include "train/grpo/experience.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "model/io/json.h"
#include "model/ops/error.h"

namespace qgrpo::train {
namespace {

void write_completion(io::JsonWriter& w, const GroupCompletion& c) {
  w.begin_object();
  w.member("ids", c.ids);
  w.member("sampling_logprobs", c.sampling_logprobs);
  w.member("old_logprobs", c.old_logprobs);
  w.member("text", c.text);
  w.member("terminated", c.terminated);
  w.member("counted", c.counted);
  w.member("reward_values", c.reward_values);
  w.member("reward", c.reward);
  w.member("advantage", static_cast<double>(c.advantage));
  w.end_object();
}

// JSON has no NaN, which stands for "not scored": it is written as null.
double number_or_nan(const io::JsonValue& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.as_double();
}

std::vector<double> numbers(const io::JsonValue& value) {
  std::vector<double> out;
  for (const auto& x : value.as_array()) out.push_back(number_or_nan(x));
  return out;
}

std::vector<float> floats(const io::JsonValue& value) {
  std::vector<float> out;
  for (const auto& x : value.as_array()) out.push_back(static_cast<float>(x.as_double()));
  return out;
}

GroupCompletion read_completion(const io::JsonValue& value) {
  GroupCompletion c;
  c.ids = value.at("ids").as_ids();
  c.sampling_logprobs = floats(value.at("sampling_logprobs"));
  c.old_logprobs = floats(value.at("old_logprobs"));
  c.text = value.at("text").as_string();
  c.terminated = value.at("terminated").as_bool();
  c.counted = value.at("counted").as_bool();
  c.reward_values = numbers(value.at("reward_values"));
  c.reward = number_or_nan(value.at("reward"));
  c.advantage = static_cast<float>(value.at("advantage").as_double());
  return c;
}

}  // namespace

std::string experience_json(const Experience& experience) {
  io::JsonWriter w;
  w.begin_object();
  w.member("frac_reward_zero_std", experience.frac_reward_zero_std);
  w.member("data_position", static_cast<std::int64_t>(experience.data_position));
  w.member("discarded_groups", experience.discarded_groups);
  w.member("prompts_truncated", experience.prompts_truncated);
  w.member("completion_tokens", experience.completion_tokens);
  w.key("groups");
  w.begin_array();
  for (const Group& group : experience.groups) {
    w.begin_object();
    w.member("prompt_ids", group.prompt_ids);
    w.member("question", group.question);
    w.member("answer", group.answer);
    w.key("completions");
    w.begin_array();
    for (const GroupCompletion& c : group.completions) write_completion(w, c);
    w.end_array();
    w.end_object();
  }
  w.end_array();
  w.end_object();
  return w.str() + "\n";
}

Experience read_experience(const std::string& path) {
  io::JsonDocument document;
  const io::JsonValue root = document.parse_file(path);
  Experience out;
  out.frac_reward_zero_std = root.at("frac_reward_zero_std").as_double();
  out.data_position = static_cast<std::uint64_t>(root.at("data_position").as_int());
  out.discarded_groups = root.at("discarded_groups").as_int();
  out.prompts_truncated = root.at("prompts_truncated").as_int();
  out.completion_tokens = root.at("completion_tokens").as_int();
  for (const auto& value : root.at("groups").as_array()) {
    Group group;
    group.prompt_ids = value.at("prompt_ids").as_ids();
    group.question = value.at("question").as_string();
    group.answer = value.at("answer").as_string();
    for (const auto& c : value.at("completions").as_array())
      group.completions.push_back(read_completion(c));
    require(!group.completions.empty(), "{}: a group without completions; the file is damaged",
            path);
    out.groups.push_back(std::move(group));
  }
  require(!out.groups.empty(), "{}: no groups in it; the file is damaged", path);
  return out;
}

bool rewards_differ(const Group& group) {
  std::optional<double> first;
  for (const GroupCompletion& c : group.completions) {
    if (std::isnan(c.reward)) continue;
    if (first && c.reward != *first) return true;
    first = c.reward;
  }
  return false;
}

}  // namespace qgrpo::train
