#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tokenizer/tokenizer.h"
#include "train/data/group.h"
#include "train/grpo/experience.h"
#include "train/objective/advantages.h"
#include "train/objective/policy_gradient.h"
#include "train/run/speed_of_light.h"

namespace qgrpo::train {

// Of one reward function over the completions of a step.
struct RewardStatistics {
  std::string name;
  double mean = 0.0;  // of those that it scored; NaN where it skipped all
  double std = 0.0;   // unbiased
};

// Of the completions of a step, in tokens.
struct LengthStatistics {
  double mean = 0.0;
  double min = 0.0;
  double max = 0.0;
};

// What a step reports. Names and definitions are TRL's.
struct StepMetrics {
  std::int64_t step = 0;
  std::int64_t max_steps = 0;
  double loss = 0.0;
  double grad_norm = 0.0;  // before clipping
  double learning_rate = 0.0;
  // Prompt and completion tokens seen so far, a prompt counted for each completion.
  std::int64_t num_tokens = 0;
  double step_time = 0.0;  // seconds
  double sampling_time = 0.0;
  double training_time = 0.0;
  double reward = 0.0;
  double reward_std = 0.0;  // unbiased, over all completions of the step
  double frac_reward_zero_std = 0.0;
  PhaseSpeed step_speed;                  // tokens: sampled
  PhaseSpeed sampling_speed;              // of drawing alone, without rewards
  PhaseSpeed training_speed;              // tokens: rows of the model that a gradient depends on
  std::vector<RewardStatistics> rewards;  // one a reward function
  std::map<std::string, double> reward_metrics;  // what reward functions log of their own
  LengthStatistics length;
  LengthStatistics terminated_length;  // of the completions that ended by EOS
  double clipped_ratio = 0.0;          // completions that hit the length limit
  std::int64_t completion_tokens = 0;  // sampled in this step
  std::int64_t discarded_groups = 0;   // sampled in this step and replaced: no signal
  UpdateStatistics update;
  bool has_kl = false;
  std::int64_t skipped_steps = 0;
  std::int64_t prompts_truncated = 0;  // so far
};

// Fills everything that follows from the groups: rewards, lengths. Only fresh groups add to the
// tokens seen.
void describe_groups(StepMetrics& metrics, const Experience& experience,
                     std::span<const std::string> reward_names, bool fresh);

// One line of metrics.jsonl.
std::string metrics_json(const StepMetrics& metrics);

// What rewards log of their own, under names that a step's or an evaluation's line does not have:
// NAME becomes log_metric/NAME where it has. `renamed`: what to tell of these; empty: there are none.
std::map<std::string, double> with_free_names(const std::map<std::string, double>& metrics,
                                              std::span<const std::string> reward_names,
                                              std::string& renamed);

// One line of completions.jsonl a completion: step, prompt, completion, answer, each reward, the
// advantage. A reward with the name of another key stands as rewards/NAME, a column of log_extra as
// log_extra/NAME. With a tokenizer also "tokens", each token's text (together: the completion with its special
// tokens), and "logprobs", of each when it was sampled.
std::string completion_json(std::int64_t step, const Group& group,
                            const GroupCompletion& completion,
                            std::span<const std::string> reward_names,
                            const tokenizer::Tokenizer* tokenizer = nullptr);

}  // namespace qgrpo::train
