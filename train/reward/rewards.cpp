#include "train/reward/rewards.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>
#include <optional>

#include "model/ops/error.h"
#include "train/data/python_text.h"
#include "train/reward/answer.h"
#include "train/reward/math_answer.h"
#include "train/reward/numeric.h"

namespace qgrpo::train {
namespace {

constexpr auto kNone = std::string_view::npos;

// Removes `prefix` from the front of `text` if it is there.
bool consume(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// Removes `.*?` and the newline behind it. `.` matches anything but "\n", so the two together can
// only end at the first newline, and nothing is left to try when what follows does not match.
bool consume_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  if (end == kNone) return false;
  text.remove_prefix(end + 1);
  return true;
}

constexpr std::size_t kNotebookRewards = 5;  // the first of kMakers
constexpr std::array<Reward (*)(), 7> kMakers = {
    [] {
      return Reward{"xmlcount", 1.0, [](auto c, auto) { return xmlcount_reward(c); }};
    },
    [] {
      return Reward{"soft_format", 1.0, [](auto c, auto) { return soft_format_reward(c); }};
    },
    [] {
      return Reward{"strict_format", 1.0, [](auto c, auto) { return strict_format_reward(c); }};
    },
    [] {
      return Reward{"int", 1.0, [](auto c, auto) { return int_reward(c); }};
    },
    [] {
      return Reward{"correctness", 1.0, correctness_reward};
    },
    [] {
      return Reward{"numeric", 1.0, numeric_reward};
    },
    [] {
      return Reward{"math", 1.0, math_reward};
    },
};

constexpr std::string_view kCommandPrefix = "cmd:";

// A finite number and nothing else.
std::optional<double> parse_weight(std::string_view text) {
  double weight = 0.0;
  const char* const end = text.data() + text.size();
  const auto [stop, status] = std::from_chars(text.data(), end, weight);
  if (status != std::errc() || stop != end || !std::isfinite(weight)) return std::nullopt;
  return weight;
}

// Where the name of a Python file ends in FILE.py:FUNCTION.
std::size_t python_file_end(std::string_view text) {
  const std::size_t at = text.find(".py:");
  if (at != kNone) return at + 3;
  return text.ends_with(".py") ? text.size() : kNone;
}

std::string_view last_path_part(std::string_view path) {
  return path.substr(path.rfind('/') == kNone ? 0 : path.rfind('/') + 1);
}

Reward parse_python(std::string_view text, std::size_t file_end) {
  Reward reward;
  reward.kind = RewardKind::python;
  reward.target = text.substr(0, file_end);
  std::string_view rest = text.substr(std::min(file_end + 1, text.size()));
  const std::size_t colon = rest.find(':');
  if (colon != kNone) {
    const std::optional<double> weight = parse_weight(rest.substr(colon + 1));
    require(
        weight.has_value(),
        "reward '{}': '{}' is not a weight, expected a finite number as in 'FILE.py:FUNCTION:0.5'",
        text, rest.substr(colon + 1));
    reward.weight = *weight;
    rest = rest.substr(0, colon);
  }
  require(!rest.empty(), "reward '{}': names no function, expected '{}:FUNCTION'", text,
          reward.target);
  reward.attribute = rest;
  reward.name = rest;
  return reward;
}

Reward parse_command(std::string_view text) {
  Reward reward;
  reward.kind = RewardKind::command;
  std::string_view command = text.substr(kCommandPrefix.size());
  const std::size_t colon = command.rfind(':');
  const std::size_t space = command.rfind(' ');
  const std::string_view last_word = command.substr(space == kNone ? 0 : space + 1);
  if (colon != kNone && last_word.find("://") == kNone) {
    if (const std::optional<double> weight = parse_weight(command.substr(colon + 1))) {
      reward.weight = *weight;
      command = command.substr(0, colon);
    }
  }
  command = python_strip(command);
  require(!command.empty(), "reward '{}': names no program, expected 'cmd:PROGRAM ARGUMENTS'",
          text);
  reward.target = command;
  reward.name = last_path_part(command.substr(0, command.find(' ')));
  return reward;
}

// The name before parse_rewards() has made it unique.
std::string_view base_name(const Reward& reward) {
  if (reward.kind == RewardKind::python) return reward.attribute;
  if (reward.kind == RewardKind::built_in) return reward.name;
  return last_path_part(std::string_view(reward.target).substr(0, reward.target.find(' ')));
}

// Where the first part of a list ends: at its first comma, but one in the name of a file that is there.
std::size_t part_end(std::string_view text) {
  const std::size_t suffix = text.find(".py:");
  std::error_code error;
  const bool file = suffix != kNone && std::filesystem::is_regular_file(
                                           std::string(text.substr(0, suffix + 3)), error);
  return text.find(',', file ? suffix : 0);
}

// The parts between commas; the arguments of a program may have commas of their own.
std::vector<std::string_view> split_list(std::string_view text) {
  std::vector<std::string_view> parts;
  while (!text.starts_with(kCommandPrefix) && part_end(text) != kNone) {
    const std::size_t end = part_end(text);
    parts.push_back(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  parts.push_back(text);
  return parts;
}

// Neumaier's sum: the rounding error of every addition is kept and added at the end.
class CompensatedSum {
 public:
  void add(double x) {
    const double sum = sum_ + x;
    error_ += std::fabs(sum_) >= std::fabs(x) ? (sum_ - sum) + x : (x - sum) + sum_;
    sum_ = sum;
  }
  double value() const { return sum_ + error_; }

 private:
  double sum_ = 0.0;
  double error_ = 0.0;
};

}  // namespace

double xmlcount_reward(std::string_view completion) {
  // The order of the additions is the notebook's: the result is the same double.
  double count = 0.0;
  if (python_count(completion, "<reasoning>\n") == 1) count += 0.125;
  if (python_count(completion, "\n</reasoning>\n") == 1) count += 0.125;
  if (python_count(completion, "\n<answer>\n") == 1) {
    count += 0.125;
    const auto tail = python_len(python_split_last(completion, "\n</answer>\n"));
    count -= static_cast<double>(tail) * 0.001;
  }
  if (python_count(completion, "\n</answer>") == 1) {
    count += 0.125;
    const auto tail = python_len(python_split_last(completion, "\n</answer>"));
    count -= (static_cast<double>(tail) - 1.0) * 0.001;  // an empty tail earns 0.001
  }
  return count;
}

double strict_format_reward(std::string_view completion) {
  std::string_view rest = completion;
  const bool matches = consume(rest, "<reasoning>\n") && consume_line(rest) &&
                       consume(rest, "</reasoning>\n<answer>\n") && consume_line(rest) &&
                       consume(rest, "</answer>\n") &&
                       (rest.empty() || rest == "\n");  // `$`: the end, or before a last newline
  return matches ? 0.5 : 0.0;
}

double soft_format_reward(std::string_view completion) {
  constexpr std::string_view close_reasoning = "</reasoning>";
  constexpr std::string_view open_answer = "<answer>";
  constexpr std::string_view close_answer = "</answer>";

  std::string_view text = completion;
  if (!consume(text, "<reasoning>")) return 0.0;
  // `.*?</reasoning>` stays in this line, but any of its closing tags may be the one that matches.
  const std::size_t line_end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, line_end);
  // What a closing tag's answer in the same line needs: a "</answer>" behind it. The last one
  // serves all of them, so that each is looked at in constant time.
  const std::size_t last_close_answer = line.rfind(close_answer);

  for (std::size_t at = line.find(close_reasoning); at != kNone;
       at = line.find(close_reasoning, at + 1)) {
    std::size_t answer = at + close_reasoning.size();
    answer += leading_space_bytes(text.substr(answer));
    if (!text.substr(answer).starts_with(open_answer)) continue;
    answer += open_answer.size();
    if (answer <= line_end) {
      if (last_close_answer != kNone && last_close_answer >= answer) return 0.5;
    } else {
      // The white space led into another line, so this was the line's last closing tag.
      const std::string_view rest = text.substr(answer);
      if (rest.substr(0, rest.find('\n')).find(close_answer) != kNone) return 0.5;
    }
  }
  return 0.0;
}

double int_reward(std::string_view completion) {
  return python_isdigit(extract_xml_answer(completion)) ? 0.5 : 0.0;
}

double correctness_reward(std::string_view completion, std::string_view answer) {
  return extract_xml_answer(completion) == answer ? kCorrectnessReward : 0.0;
}

double numeric_reward(std::string_view completion, std::string_view answer) {
  return same_numeric_answer(numeric_answer(completion), numeric_answer(answer)) ? 1.0 : 0.0;
}

double math_reward(std::string_view completion, std::string_view answer) {
  return same_math_answer(math_answer(completion), math_gold(answer)) ? 1.0 : 0.0;
}

std::vector<std::string> reward_names() {
  std::vector<std::string> names;
  for (const auto make : kMakers) names.push_back(make().name);
  return names;
}

Reward parse_reward(std::string_view text) {
  if (text.starts_with(kCommandPrefix)) return parse_command(text);
  const std::size_t file_end = python_file_end(text);
  if (file_end != kNone) return parse_python(text, file_end);
  const std::size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  const auto* const maker =
      std::find_if(kMakers.begin(), kMakers.end(), [&](auto make) { return make().name == name; });
  require(maker != kMakers.end(),
          "reward '{}': unknown name '{}', expected one of {}, FILE.py:FUNCTION or cmd:PROGRAM",
          text, name, fmt::join(reward_names(), ", "));
  Reward reward = (*maker)();
  if (colon != kNone) {
    const std::string_view digits = text.substr(colon + 1);
    const std::optional<double> weight = parse_weight(digits);
    require(weight.has_value(),
            "reward '{}': '{}' is not a weight, expected a finite number as in '{}:0.5'", text,
            digits, name);
    reward.weight = *weight;
  }
  return reward;
}

std::vector<Reward> parse_rewards(std::span<const std::string> texts) {
  std::vector<Reward> rewards;
  if (texts.empty()) {
    for (std::size_t i = 0; i < kNotebookRewards; ++i) rewards.push_back(kMakers[i]());
    return rewards;
  }
  for (const std::string& text : texts) {
    for (const std::string_view one : split_list(text)) {
      Reward reward = parse_reward(one);
      std::size_t same_name = 0;
      for (const Reward& other : rewards) {
        require(other.kind != reward.kind || other.target != reward.target ||
                    other.attribute != reward.attribute || other.function != reward.function,
                "reward '{}' is given twice, expected each once", reward.name);
        same_name += base_name(other) == base_name(reward) ? 1 : 0;
      }
      if (same_name > 0) reward.name = fmt::format("{}_{}", reward.name, same_name + 1);
      rewards.push_back(std::move(reward));
    }
  }
  return rewards;
}

bool needs_answer(const Reward& reward) {
  return reward.function == correctness_reward || reward.function == numeric_reward ||
         reward.function == math_reward;
}

double weighted_total(std::span<const Reward> rewards, std::span<const double> values) {
  CompensatedSum total;
  bool any = false;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) continue;
    total.add(rewards[i].weight * values[i]);
    any = true;
  }
  return any ? total.value() : std::numeric_limits<double>::quiet_NaN();
}

RewardScores score(std::span<const Reward> rewards, std::string_view completion,
                   std::string_view answer) {
  RewardScores scores;
  scores.values.reserve(rewards.size());
  for (const Reward& reward : rewards) {
    require(reward.function != nullptr, "reward '{}' is not built in, so it cannot be used here",
            reward.name);
    scores.values.push_back(reward.function(completion, answer));
  }
  scores.total = weighted_total(rewards, scores.values);
  return scores;
}

}  // namespace qgrpo::train
