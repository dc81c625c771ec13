#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

// The reward functions that are built in, and the names of all. docs/rewards.md states each rule.
// The first five are the GSM8K notebook's, with exactly Python's semantics: the scores are the same
// doubles. All take time linear in the completion.
namespace qgrpo::train {

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
inline constexpr double kCorrectnessReward = 2.0;  // of a right answer
double correctness_reward(std::string_view completion, std::string_view answer);

// 1 if the last number of the completion's answer equals the last one of `answer`, whatever way
// they are written; what is no plain number is compared as what it is (train/reward/numeric.h).
double numeric_reward(std::string_view completion, std::string_view answer);

// 1 if the completion's answer is `answer` as mathematics, LaTeX or plain
// (train/reward/math_answer.h); else 0.
double math_reward(std::string_view completion, std::string_view answer);

using RewardFunction = double (*)(std::string_view completion, std::string_view answer);

enum class RewardKind {
  built_in,
  python,   // a function in a file, with TRL's signature
  command,  // a program that speaks JSON lines
};

struct Reward {
  std::string name;  // in logs: the built-in's, the Python function's, the program's
  double weight = 1.0;
  RewardFunction function = nullptr;  // built_in
  RewardKind kind = RewardKind::built_in;
  std::string target = {};     // python: the file; command: what the shell runs
  std::string attribute = {};  // python: the function's name in the file
};

// The names of the built-in rewards: the notebook's five in its order, then numeric and math.
std::vector<std::string> reward_names();

// One reward as the user gives it. Any of them may have a weight behind a last colon:
//   correctness:2                 a built-in
//   my/rewards.py:brevity:0.5     a Python function
//   cmd:./judge --strict:2        a program (a last word with "://" in it has no weight)
// Throws Error on an unknown name, a missing part or a weight that is not a finite number. Looks at
// no file.
Reward parse_reward(std::string_view text);

// Several of them; a text may hold some built-ins and Python functions, with commas between. An
// empty list means the notebook's five with weight 1. Throws Error on a repeated one; of two
// different ones with the same name the second is called NAME_2.
std::vector<Reward> parse_rewards(std::span<const std::string> texts);

// Whether it compares with the answer column.
bool needs_answer(const Reward& reward);

struct RewardScores {
  std::vector<double> values;  // one for each reward, before its weight; NaN: it skips this one
  // Sum of weight * value over those that do not skip, correctly rounded whatever the order; NaN
  // where all skip.
  double total = 0.0;
};

// The total of scores.values.
double weighted_total(std::span<const Reward> rewards, std::span<const double> values);

// Scores by built-in rewards alone; throws Error where there is another one (train/reward/scorer.h
// has all of them).
RewardScores score(std::span<const Reward> rewards, std::string_view completion,
                   std::string_view answer);

}  // namespace qgrpo::train
