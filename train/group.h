#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace qgrpo::train {

// One completion of a group, from sampling to the loss.
struct GroupCompletion {
  std::vector<std::int32_t> ids;  // up to and including the first EOS
  std::vector<float>
      sampling_logprobs;    // of the policy when it was sampled, one a token; empty in a replay
  std::string text;         // without special tokens
  bool terminated = false;  // ended by EOS rather than by the length limit
  std::vector<double> reward_values;  // one a reward function, before weights; empty in a replay
  double reward = 0.0;                // weighted sum
  float advantage = 0.0f;
};

// A prompt and its completions.
struct Group {
  std::vector<std::int32_t> prompt_ids;
  std::string question;
  std::string answer;
  std::vector<GroupCompletion> completions;
};

}  // namespace qgrpo::train
