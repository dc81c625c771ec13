#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/ops/objective.h"
#include "model/training_pass.h"
#include "train/data/group.h"
#include "train/objective/loss_weights.h"
#include "train/objective/objective.h"

namespace qgrpo::train {

// What the gradient of a step is computed from.
struct UpdateSettings {
  PolicyObjective objective;        // params.beta = 0: no reference pass
  LossNormalization normalization;  // accumulation_steps = number of chunks the step's groups come
                                    // in; its type is the objective's
  std::int64_t groups_per_chunk = 1;  // prompts_per_step
  float temperature = 1.0f;           // of the objective's log-probs
  std::int32_t policy_adapter = 0;
  std::int32_t reference_adapter = -1;
};

// Statistics of a step, as TRL defines them: means over the loss tokens of a chunk (TRL's
// micro-batch), then over chunks; the extremes are those of the completions' means. With a sequence
// ratio the clip figures are means over completions. Groups that were skipped are not in them.
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
  std::int64_t skipped_groups = 0;   // without signal: all advantages 0 and no KL term
};

// Per-token log-probs of a step, by group and completion: for tests and for recording.
struct TokenLogprobs {
  std::vector<std::vector<std::vector<float>>> policy;
  std::vector<std::vector<std::vector<float>>> reference;
};

// Accumulates d loss / d parameters of the groups' completions (whose advantages are set):
//   loss = sum over completions and tokens of weight * objective
// The groups are packed into micro-batches of at most the pass's tokens. The prompt of a group is
// computed once, forward and backward, for all its completions; a group that does not fit is cut
// into parts that each compute it. Where the objective needs whole completions, the log-probs are
// taken from the same forward pass first; with top_entropy_quantile < 1 a pass over all
// micro-batches finds the entropies before. With beta = 0 groups whose advantages are all 0 are
// left out of their micro-batch: what they would add is exactly 0. Throws Error when a prompt and
// one completion do not fit.
UpdateStatistics accumulate_policy_gradient(model::TrainingPass& pass, const model::Model& model,
                                            const model::ModelGradients& gradients,
                                            std::span<const Group> groups,
                                            const UpdateSettings& settings,
                                            TokenLogprobs* logprobs = nullptr);

}  // namespace qgrpo::train
