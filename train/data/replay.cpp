#include "train/data/replay.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

#include "model/io/file.h"
#include "model/io/json.h"
#include "model/ops/error.h"

namespace qgrpo::train {

std::vector<Group> read_replay(const std::string& path, std::int64_t vocab_size,
                               const std::vector<std::int32_t>& eos_ids) {
  std::istringstream file(io::read_input(path));
  std::vector<Group> groups;
  io::JsonDocument document;
  std::string line;
  for (std::size_t number = 1; std::getline(file, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = fmt::format("{} line {}", path, number);
    const io::JsonValue root = document.parse(line, where);
    const auto check_ids = [&](const std::vector<std::int32_t>& ids, const std::string& what) {
      require(!ids.empty(), "{}: {} is empty", where, what);
      for (const auto id : ids) {
        require(id < vocab_size, "{}: {} has the id {}, outside the vocabulary of {}", where, what,
                id, vocab_size);
      }
    };
    Group group;
    group.prompt_ids = root.at("prompt_ids").as_ids();
    check_ids(group.prompt_ids, "\"prompt_ids\"");
    const auto completions = root.at("completions").as_array();
    const auto rewards = root.at("rewards").as_array();
    require(completions.size() >= 2, "{}: {} completion(s); a group needs at least 2", where,
            completions.size());
    require(rewards.size() == completions.size(), "{}: {} rewards for {} completions", where,
            rewards.size(), completions.size());
    for (std::size_t i = 0; i < completions.size(); ++i) {
      GroupCompletion completion;
      completion.ids = completions[i].as_ids();
      check_ids(completion.ids, fmt::format("completion {}", i));
      completion.reward = rewards[i].as_double();
      require(std::abs(completion.reward) <= std::numeric_limits<float>::max(),
              "{}: reward {} is {}, expected a number that float32 holds", where, i,
              completion.reward);
      completion.terminated =
          std::find(eos_ids.begin(), eos_ids.end(), completion.ids.back()) != eos_ids.end();
      group.completions.push_back(std::move(completion));
    }
    groups.push_back(std::move(group));
  }
  require(!groups.empty(), "{}: no groups in it; expected a JSON object a line", path);
  return groups;
}

}  // namespace qgrpo::train
