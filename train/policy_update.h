#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/ops/objective.h"
#include "model/training_pass.h"
#include "train/group.h"
#include "train/loss_weights.h"

namespace qgrpo::train {

// What the gradient of a step is computed from.
struct UpdateSettings {
  ObjectiveParams objective;  // beta = 0: no reference pass
  LossNormalization
      normalization;  // accumulation_steps = number of chunks the step's groups come in
  std::int64_t groups_per_chunk = 1;  // prompts_per_step
  float temperature = 1.0f;           // of the objective's log-probs
  std::int32_t policy_adapter = 0;
  std::int32_t reference_adapter = -1;
};

// Statistics of a step, as TRL defines them: means over the tokens of a chunk (TRL's micro-batch),
// then over chunks.
struct UpdateStatistics {
  double loss = 0.0;
  double kl = 0.0;
  double entropy = 0.0;
  double clip_low_mean = 0.0, clip_low_min = 0.0, clip_high_mean = 0.0, clip_high_max = 0.0,
         clip_region_mean = 0.0;
  // |log-prob when sampled - log-prob in this pass| over all tokens, and the ratio exp(this -
  // sampled). Only where sampling log-probs are there.
  bool has_sampling = false;
  double logp_difference_mean = 0.0, logp_difference_max = 0.0;
  double ratio_min = 1.0, ratio_mean = 1.0, ratio_max = 1.0;
  std::int64_t completion_tokens = 0;
  std::int64_t computed_tokens = 0;  // rows that went through the policy's forward pass
  std::int64_t passes = 0;           // micro-batches
};

// Per-token log-probs of a step, by group and completion: for tests and for recording.
struct TokenLogprobs {
  std::vector<std::vector<std::vector<float>>> policy;
  std::vector<std::vector<std::vector<float>>> reference;
};

// Accumulates d loss / d parameters of the groups' completions (whose advantages are set):
//   loss = sum over completions and tokens of weight * token_objective
// The groups are packed into micro-batches of at most the pass's tokens. The prompt of a group is
// computed once, forward and backward, for all its completions; a group that does not fit is cut
// into parts that each compute it. Throws Error when a prompt and one completion do not fit.
UpdateStatistics accumulate_policy_gradient(model::TrainingPass& pass, const model::Model& model,
                                            const model::ModelGradients& gradients,
                                            std::span<const Group> groups,
                                            const UpdateSettings& settings,
                                            TokenLogprobs* logprobs = nullptr);

}  // namespace qgrpo::train
