#include "train/rewards.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "model/ops/error.h"
#include "train/python_text.h"

namespace qgrpo::train {
namespace {

constexpr auto npos = std::string_view::npos;

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
  if (end == npos) return false;
  text.remove_prefix(end + 1);
  return true;
}

constexpr std::array<Reward (*)(), 5> kMakers = {
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
};

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

std::string_view extract_xml_answer(std::string_view text) {
  return python_strip(python_split_first(python_split_last(text, "<answer>"), "</answer>"));
}

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

  for (std::size_t at = line.find(close_reasoning); at != npos;
       at = line.find(close_reasoning, at + 1)) {
    std::size_t answer = at + close_reasoning.size();
    answer += leading_space_bytes(text.substr(answer));
    if (!text.substr(answer).starts_with(open_answer)) continue;
    answer += open_answer.size();
    if (answer <= line_end) {
      if (last_close_answer != npos && last_close_answer >= answer) return 0.5;
    } else {
      // The white space led into another line, so this was the line's last closing tag.
      const std::string_view rest = text.substr(answer);
      if (rest.substr(0, rest.find('\n')).find(close_answer) != npos) return 0.5;
    }
  }
  return 0.0;
}

double int_reward(std::string_view completion) {
  return python_isdigit(extract_xml_answer(completion)) ? 0.5 : 0.0;
}

double correctness_reward(std::string_view completion, std::string_view answer) {
  return extract_xml_answer(completion) == answer ? 2.0 : 0.0;
}

std::vector<std::string> reward_names() {
  std::vector<std::string> names;
  for (const auto make : kMakers) names.push_back(make().name);
  return names;
}

Reward parse_reward(std::string_view text) {
  const std::size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  const auto* const maker =
      std::find_if(kMakers.begin(), kMakers.end(), [&](auto make) { return make().name == name; });
  require(maker != kMakers.end(), "reward '{}': unknown name '{}', expected one of {}", text, name,
          fmt::join(reward_names(), ", "));
  Reward reward = (*maker)();
  if (colon != npos) {
    const std::string_view number = text.substr(colon + 1);
    const char* const end = number.data() + number.size();
    const auto [stop, status] = std::from_chars(number.data(), end, reward.weight);
    require(status == std::errc() && stop == end && std::isfinite(reward.weight),
            "reward '{}': '{}' is not a weight, expected a finite number as in '{}:0.5'", text,
            number, name);
  }
  return reward;
}

std::vector<Reward> parse_rewards(std::span<const std::string> texts) {
  std::vector<Reward> rewards;
  if (texts.empty()) {
    for (const auto make : kMakers) rewards.push_back(make());
    return rewards;
  }
  for (const std::string& text : texts) {
    Reward reward = parse_reward(text);
    for (const Reward& other : rewards) {
      require(other.name != reward.name, "reward '{}' is given twice, expected each name once",
              reward.name);
    }
    rewards.push_back(std::move(reward));
  }
  return rewards;
}

RewardScores score(std::span<const Reward> rewards, std::string_view completion,
                   std::string_view answer) {
  RewardScores scores;
  scores.values.reserve(rewards.size());
  CompensatedSum total;
  for (const Reward& reward : rewards) {
    const double value = reward.function(completion, answer);
    scores.values.push_back(value);
    total.add(reward.weight * value);
  }
  scores.total = total.value();
  return scores;
}

}  // namespace qgrpo::train
