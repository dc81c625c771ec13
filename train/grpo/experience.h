#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/data/group.h"

namespace qgrpo::train {

// What one round of sampling gives: groups with rewards and advantages, from which num_iterations
// optimizer steps are taken.
struct Experience {
  std::vector<Group> groups;
  double frac_reward_zero_std = 0.0;   // Advantages::frac_reward_zero_std of these groups
  std::uint64_t data_position = 0;     // groups taken from the data stream, these included
  std::int64_t discarded_groups = 0;   // sampled, without signal, replaced (dynamic sampling)
  std::int64_t prompts_truncated = 0;  // of these groups and of those discarded
  std::int64_t completion_tokens = 0;  // sampled, those discarded included
};

// A checkpoint between two steps on the same experience keeps it, experience.json: ids, texts,
// rewards, advantages and old log-probs, exactly.
std::string experience_json(const Experience& experience);
// Throws Error naming the file and the key.
Experience read_experience(const std::string& path);

// Whether a group's rewards differ, so that its advantages are not all 0.
bool rewards_differ(const Group& group);

}  // namespace qgrpo::train
