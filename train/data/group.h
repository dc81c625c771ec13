#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace qgrpo::train {

// A key and its value as JSON text.
using Column = std::pair<std::string, std::string>;

// One completion of a group, from sampling to the loss.
struct GroupCompletion {
  std::vector<std::int32_t> ids;  // up to and including the first EOS
  std::vector<float>
      sampling_logprobs;  // of the policy when it was sampled, one a token; empty in a replay
  std::string text;       // without special tokens
  std::vector<float> old_logprobs;  // of the policy that sampled it, by the training pass; empty =
                                    // the policy is still that one (on-policy)
  bool terminated = false;          // ended by EOS rather than by the length limit
  bool counted = true;              // false: no part of the loss (mask_truncated_completions)
  // One a reward function, before weights, NaN where it skips this completion; empty in a replay.
  std::vector<double> reward_values;
  double reward = 0.0;        // weighted sum of the others; NaN where all skip
  std::vector<Column> extra;  // what reward functions add to completions.jsonl
  float advantage = 0.0f;
};

// A prompt and its completions.
struct Group {
  std::vector<std::int32_t> prompt_ids;
  std::string question;
  std::string answer;
  // What rewards that users write get: the conversation as JSON (empty: the question as the user's
  // message) and the columns of the data set. Not kept in checkpoints: scoring comes before.
  std::string prompt_json;
  std::vector<Column> columns;
  std::vector<GroupCompletion> completions;
};

}  // namespace qgrpo::train
