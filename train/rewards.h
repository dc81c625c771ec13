#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

// The five reward functions of the GSM8K notebook, with exactly Python's semantics: the scores are
// the same doubles. docs/rewards.md states each rule. All take time linear in the completion.
namespace qgrpo::train {

// text.split("<answer>")[-1].split("</answer>")[0].strip(), a part of `text`.
std::string_view extract_xml_answer(std::string_view text);

// Partial credit for each tag that occurs exactly once, less 0.001 for each code point behind the
// closing tag. May be negative.
double xmlcount_reward(std::string_view completion);

// 0.5 if re.match(r"<reasoning>.*?</reasoning>\s*<answer>.*?</answer>", completion), else 0.
double soft_format_reward(std::string_view completion);

// 0.5 if re.match(r"^<reasoning>\n.*?\n</reasoning>\n<answer>\n.*?\n</answer>\n$", completion).
double strict_format_reward(std::string_view completion);

// 0.5 if extract_xml_answer(completion).isdigit().
double int_reward(std::string_view completion);

// 2 if extract_xml_answer(completion) == answer.
double correctness_reward(std::string_view completion, std::string_view answer);

using RewardFunction = double (*)(std::string_view completion, std::string_view answer);

struct Reward {
  std::string name;  // xmlcount | soft_format | strict_format | int | correctness
  double weight = 1.0;
  RewardFunction function = nullptr;
};

// The known names, in the notebook's order.
std::vector<std::string> reward_names();

// "name" or "name:weight", for example "correctness:2". Throws Error on an unknown name or a weight
// that is not a finite number.
Reward parse_reward(std::string_view text);

// Several of them; an empty list means all five with weight 1. Throws Error on a repeated name.
std::vector<Reward> parse_rewards(std::span<const std::string> texts);

struct RewardScores {
  std::vector<double> values;  // one for each reward, before its weight
  double total = 0.0;          // sum of weight * value, correctly rounded whatever the order
};

RewardScores score(std::span<const Reward> rewards, std::string_view completion,
                   std::string_view answer);

}  // namespace qgrpo::train
