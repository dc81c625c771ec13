#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "model/training_pass.h"
#include "train/data/group.h"
#include "train/data/per_token.h"
#include "train/objective/loss_weights.h"
#include "train/objective/objective.h"
#include "train/objective/update_statistics.h"

namespace qgrpo::train {

// What the gradient of a step is computed from.
struct UpdateSettings {
  PolicyObjective objective;         // params.beta = 0: no reference pass
  LossNormalization normalization;   // accumulation_steps = number of chunks the step's groups come
                                     // in; its type is the objective's
  std::size_t groups_per_chunk = 1;  // prompts_per_step
  float temperature = 1.0f;          // of the objective's log-probs
  std::int32_t policy_adapter = 0;
  std::int32_t reference_adapter = -1;
};

// The log-probs of a step's tokens: what later iterations on the same completions compare with.
struct TokenLogprobs {
  PerToken<float> policy;
  PerToken<float> reference;  // 0 where beta = 0
};

// Whether a group adds to the gradient of a loss without a KL term: not where all advantages are 0.
bool has_signal(const Group& group);

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
