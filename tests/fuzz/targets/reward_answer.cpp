// A line of a reward's program; the first byte says whose, and to how many completions.
#include "fuzz/target.h"
#include "train/reward/host_answer.h"

using namespace qgrpo;

QGRPO_FUZZ_TARGET(reward_answer) {
  if (input.empty()) return;
  static const std::vector<train::Reward> python =
      train::parse_rewards(std::vector<std::string>{"a.py:f", "b.py:g"});
  static const std::vector<train::Reward> command =
      train::parse_rewards(std::vector<std::string>{"cmd:judge"});
  const bool is_python = (input[0] & 4) != 0;
  const std::size_t count = 1 + (input[0] & 3);
  const train::HostAnswerReader reader(is_python ? python : command, 7);
  const std::string line(input.substr(1));
  const train::HostAnswer answer = reader.read(line, count);
  for (const auto& row : answer.values)
    fuzz::check(row.size() == count, "a row has another length");
}
