#pragma once

#include <string>
#include <vector>

#include "train/data/group.h"

namespace qgrpo::train {

// Reads recorded groups, one JSON object a line:
//   {"prompt_ids": [..], "completions": [[ids], ..], "rewards": [..]}
// Each completion is trained on as it stands (it should end with its EOS where it has one). Throws
// Error naming file and line: no groups, an empty prompt or completion, fewer than two completions,
// as many rewards as completions needed, a reward that is not finite, an id outside [0,
// vocab_size). eos_ids: a completion that ends in one of them counts as terminated.
std::vector<Group> read_replay(const std::string& path, std::int64_t vocab_size,
                               const std::vector<std::int32_t>& eos_ids);

}  // namespace qgrpo::train
