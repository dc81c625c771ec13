#pragma once

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

namespace qgrpo::cli {

struct GradeOptions {
  std::string input;  // a file; empty or "-": standard input
  std::vector<std::string>
      rewards;         // train/reward/rewards.h, parse_rewards; empty: the notebook's five
  std::string python;  // for rewards in Python, as in TrainOptions
  double reward_timeout = 120.0;
  // Either of them: rejection sampling (cli/grade_select.h) instead of scores.
  std::optional<double> min_reward;
  std::optional<std::int64_t> keep_best;
  bool keep_truncated = false;
  bool keep_duplicates = false;
  std::string output;  // a file; empty: standard output
};

// Scores completions: JSON lines {"completion": .., "answer": ..} in, for each, in order, one line
// out with every reward before its weight, and the weighted sum:
//   {"xmlcount":..,"soft_format":..,"strict_format":..,"int":..,"correctness":..,"total":..}
// Numbers are the shortest decimals that read back as the same double; null where a reward skips
// the completion. Blank lines are skipped. Rewards of the user's also get the prompt ("prompt", a
// list of messages or a text), "completion_ids" and all other keys as columns; they are called once
// for up to 64 lines. Throws Error that names the file and the line on anything else than such an
// object, and where the output cannot be written. Lines before a bad one have been answered.
// With min_reward or keep_best, run_select() instead. Returns 0.
int run_grade(const GradeOptions& options, std::istream& standard_input, std::ostream& output);

}  // namespace qgrpo::cli
