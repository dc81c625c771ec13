#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/lora.h"
#include "train/grpo/options.h"
#include "train/grpo/rollout.h"
#include "train/objective/policy_gradient.h"

// What the options mean to the parts of a step.
namespace qgrpo::train {

// Sampling of the policy.
RolloutSettings rollout_settings(const TrainOptions& options, std::vector<std::int32_t> eos_ids);

// The objective over the groups of a step; its reference is the base model or the frozen adapter.
UpdateSettings update_settings(const TrainOptions& options, std::span<const Group> groups);

}  // namespace qgrpo::train
