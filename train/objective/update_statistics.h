#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/ops/objective.h"
#include "model/ops/ops.h"
#include "train/data/group.h"
#include "train/data/per_token.h"
#include "train/objective/objective.h"

namespace qgrpo::train {

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

// What a step has computed of a token; not of those in groups that were skipped.
struct TokenRecord {
  HeadResult head;
  TokenObjective<float> objective;
  bool computed = false;
};

// What is counted, from what was computed: the losses with the weights of [group][completion], and
// chunks of `groups_per_chunk` groups. Sets all but computed_tokens, passes and skipped_groups.
UpdateStatistics statistics_of(std::span<const Group> groups, const PerToken<TokenRecord>& records,
                               const std::vector<std::vector<double>>& weights,
                               ImportanceLevel level, std::size_t groups_per_chunk);

}  // namespace qgrpo::train
