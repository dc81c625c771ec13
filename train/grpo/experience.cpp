#include "train/grpo/experience.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <optional>

#include "model/io/json.h"
#include "model/ops/error.h"
#include "train/objective/advantages.h"

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

// Of a completion's tokens, or none.
std::vector<float> token_numbers(const io::JsonValue& value, std::size_t tokens) {
  std::vector<float> out;
  for (const double x : numbers(value)) out.push_back(static_cast<float>(x));
  require(out.empty() || out.size() == tokens,
          "{}: found {} numbers, expected one for each of the {} ids; the file is damaged",
          value.where(), out.size(), tokens);
  return out;
}

std::vector<std::int32_t> token_ids(const io::JsonValue& value, std::int64_t vocab_size) {
  std::vector<std::int32_t> ids = value.as_ids();
  for (const std::int32_t id : ids) {
    require(id < vocab_size, "{}: the id {} is outside the vocabulary of {}; the file is damaged",
            value.where(), id, vocab_size);
  }
  return ids;
}

GroupCompletion read_completion(const io::JsonValue& value, std::int64_t vocab_size) {
  GroupCompletion c;
  c.ids = token_ids(value.at("ids"), vocab_size);
  c.sampling_logprobs = token_numbers(value.at("sampling_logprobs"), c.ids.size());
  c.old_logprobs = token_numbers(value.at("old_logprobs"), c.ids.size());
  c.text = value.at("text").as_string();
  c.terminated = value.at("terminated").as_bool();
  c.counted = value.at("counted").as_bool();
  c.reward_values = numbers(value.at("reward_values"));
  c.reward = number_or_nan(value.at("reward"));
  c.advantage = static_cast<float>(value.at("advantage").as_double());
  return c;
}

std::int64_t count_at(const io::JsonValue& root, const char* key) {
  const std::int64_t number = root.at(key).as_int();
  require(number >= 0, "{}: \"{}\" is {}, expected a count", root.where(), key, number);
  return number;
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

Experience read_experience(const std::string& path, std::int64_t vocab_size) {
  io::JsonDocument document;
  // As long as its completions are.
  const io::JsonValue root = document.parse_file(path, SIZE_MAX);
  Experience out;
  out.frac_reward_zero_std = root.at("frac_reward_zero_std").as_double();
  out.data_position = static_cast<std::uint64_t>(count_at(root, "data_position"));
  out.discarded_groups = count_at(root, "discarded_groups");
  out.prompts_truncated = count_at(root, "prompts_truncated");
  out.completion_tokens = count_at(root, "completion_tokens");
  for (const auto& value : root.at("groups").as_array()) {
    Group group;
    group.prompt_ids = token_ids(value.at("prompt_ids"), vocab_size);
    require(!group.prompt_ids.empty(), "{}: a group without a prompt; the file is damaged", path);
    group.question = value.at("question").as_string();
    group.answer = value.at("answer").as_string();
    for (const auto& c : value.at("completions").as_array())
      group.completions.push_back(read_completion(c, vocab_size));
    require(!group.completions.empty(), "{}: a group without completions; the file is damaged",
            path);
    out.groups.push_back(std::move(group));
  }
  require(!out.groups.empty(), "{}: no groups in it; the file is damaged", path);
  // The first completion says which of the arrays there are.
  const GroupCompletion& first = out.groups.front().completions.front();
  for (const Group& group : out.groups) {
    for (const GroupCompletion& c : group.completions) {
      require(c.sampling_logprobs.empty() == first.sampling_logprobs.empty() &&
                  c.old_logprobs.empty() == first.old_logprobs.empty() &&
                  c.reward_values.size() == first.reward_values.size(),
              "{}: completions have different numbers of sampling_logprobs, old_logprobs or "
              "reward_values; the file is damaged",
              path);
    }
  }
  return out;
}

void check_rewards(std::span<const Group> groups, std::span<const Reward> rewards) {
  // Its square and its float32 are far from their ends.
  constexpr double kMost = 1e30;
  for (const Group& group : groups) {
    for (const GroupCompletion& c : group.completions) {
      // What is not a number was scored by none of them.
      const bool unscored = std::all_of(c.reward_values.begin(), c.reward_values.end(),
                                        [](double value) { return std::isnan(value); });
      if (std::abs(c.reward) <= kMost || (std::isnan(c.reward) && unscored)) continue;
      std::string by = "the reward";
      double largest = 0.0;
      for (std::size_t f = 0; f < rewards.size() && f < c.reward_values.size(); ++f) {
        if (!(std::abs(rewards[f].weight * c.reward_values[f]) > largest)) continue;
        largest = std::abs(rewards[f].weight * c.reward_values[f]);
        by = fmt::format("the reward {} gave {} (weight {}), so the sum", rewards[f].name,
                         c.reward_values[f], rewards[f].weight);
      }
      fail(
          "{} of a completion is {}, expected at most {:g} either way: the mean or the deviation "
          "of "
          "its group would overflow (the question: {})",
          by, c.reward, kMost, group.question);
    }
  }
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

ExperienceBuilder::ExperienceBuilder(const TrainOptions& options, std::uint64_t data_position)
    : wanted_(options.batch.prompts_per_step * options.batch.gradient_accumulation_steps),
      dynamic_sampling_(options.objective.dynamic_sampling),
      rounds_left_(1 + options.objective.max_resample_batches) {
  experience_.data_position = data_position;
}

std::int64_t ExperienceBuilder::missing() const {
  return rounds_left_ == 0 ? 0 : wanted_ - std::ssize(experience_.groups);
}

std::vector<Group> ExperienceBuilder::take_prompts(GroupSource& source) {
  return source.take(missing(), experience_.data_position, experience_.prompts_truncated);
}

void ExperienceBuilder::add(std::vector<Group> groups) {
  --rounds_left_;
  sampled_ += std::ssize(groups);
  for (Group& group : groups) {
    for (const auto& c : group.completions) experience_.completion_tokens += std::ssize(c.ids);
    const bool keep = !dynamic_sampling_ || rewards_differ(group);
    (keep ? experience_.groups : aside_).push_back(std::move(group));
  }
}

Experience ExperienceBuilder::finish() {
  const std::int64_t missing = wanted_ - std::ssize(experience_.groups);
  experience_.discarded_groups = std::ssize(aside_) - missing;
  std::move(aside_.begin(), aside_.begin() + missing, std::back_inserter(experience_.groups));
  return std::move(experience_);
}

void set_advantages(Experience& experience, const ObjectiveOptions& options) {
  std::vector<double> rewards;
  std::vector<std::size_t> sizes;
  for (const Group& group : experience.groups) {
    sizes.push_back(group.completions.size());
    for (const auto& c : group.completions) rewards.push_back(c.reward);
  }
  const Advantages advantages =
      compute_advantages(rewards, sizes, options.scale_rewards, Unscored::leave_out);
  auto next = advantages.values.begin();
  for (Group& group : experience.groups) {
    for (auto& c : group.completions) {
      c.advantage = *next++;
      c.counted = c.terminated || !options.mask_truncated_completions;
    }
  }
  experience.frac_reward_zero_std = advantages.frac_reward_zero_std;
}

void keep_old_logprobs(Experience& experience, const TokenLogprobs& logprobs) {
  for (std::size_t g = 0; g < experience.groups.size(); ++g) {
    auto& completions = experience.groups[g].completions;
    for (std::size_t c = 0; c < completions.size(); ++c) {
      const auto policy = logprobs.policy.of(g, c);
      completions[c].old_logprobs.assign(policy.begin(), policy.end());
    }
  }
}

}  // namespace qgrpo::train
