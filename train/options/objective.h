#pragma once

#include <cstdint>
#include <optional>

#include "model/io/enum_names.h"
#include "train/objective/advantages.h"
#include "train/objective/objective.h"
#include "train/options/option_set.h"

namespace qgrpo::train {

// What the KL term is taken to.
enum class Reference {
  base,    // the base model, without an adapter
  adapter  // the starting adapter as it was, frozen
};
inline constexpr auto kReferenceNames =
    io::enum_names<Reference>({{Reference::base, "base"}, {Reference::adapter, "adapter"}});

// TRL's loss of today, or that of 2025, as the notebook ran it.
enum class LossForm {
  now,  // log-probs of logits / temperature
  then  // of temperature 1, plain k3
};
inline constexpr auto kLossFormNames =
    io::enum_names<LossForm>({{LossForm::now, "now"}, {LossForm::then, "then"}});

// GRPO's objective and its relatives: docs/objective.md.
struct ObjectiveOptions {
  double beta = 0.04;  // 0: no reference pass
  Reference reference = Reference::base;
  double epsilon = 0.2;                // lower clipping bound, and the upper one unless given
  std::optional<double> epsilon_high;  // absent: epsilon; cispo: the bound of the ratio itself
  std::optional<double> delta;         // bound of the unclipped ratio (INTELLECT-2); absent: none
  LossType loss_type = LossType::grpo;
  ImportanceLevel importance_sampling_level = ImportanceLevel::token;
  std::int64_t num_iterations = 1;          // optimizer steps on each round of sampling
  double top_entropy_quantile = 1.0;        // part of the tokens, by entropy, with a policy term
  bool mask_truncated_completions = false;  // completions without EOS are no part of the loss
  // Groups whose rewards are all equal are replaced by groups of further prompts, sampled in up to
  // max_resample_batches more rounds (DAPO's dynamic sampling).
  bool dynamic_sampling = false;
  std::int64_t max_resample_batches = 10;
  LossForm loss_form = LossForm::now;
  // TRL 1.16's default is true; the notebook's KL is the plain one
  bool use_bias_correction_kl = false;
  ScaleRewards scale_rewards = ScaleRewards::group;
  // stops the run: mean |sampled - training log-prob| of a step (0 = off)
  double logp_difference_limit = 0.05;
};

void describe(ObjectiveOptions& options, OptionSet& set);

}  // namespace qgrpo::train
