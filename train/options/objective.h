#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace qgrpo::train {

// GRPO's objective and its relatives: docs/objective.md.
struct ObjectiveOptions {
  double beta = 0.04;                  // 0: no reference pass
  std::string reference = "base";      // or adapter: the starting adapter as it was, frozen
  double epsilon = 0.2;                // lower clipping bound, and the upper one unless given
  std::optional<double> epsilon_high;  // absent: epsilon; cispo: the bound of the ratio itself
  std::optional<double> delta;         // bound of the unclipped ratio (INTELLECT-2); absent: none
  std::string loss_type = "grpo";      // train/objective/loss_weights.h
  std::string importance_sampling_level = "token";  // or sequence (GSPO)
  std::int64_t num_iterations = 1;                  // optimizer steps on each round of sampling
  double top_entropy_quantile = 1.0;        // part of the tokens, by entropy, with a policy term
  bool mask_truncated_completions = false;  // completions without EOS are no part of the loss
  // Groups whose rewards are all equal are replaced by groups of further prompts, sampled in up to
  // max_resample_batches more rounds (DAPO's dynamic sampling).
  bool dynamic_sampling = false;
  std::int64_t max_resample_batches = 10;
  std::string loss_form = "now";  // now: logits / temperature; then: temperature 1, plain k3
  // TRL 1.16's default is true; the notebook's KL is the plain one
  bool use_bias_correction_kl = false;
  std::string scale_rewards = "group";
  // stops the run: mean |sampled - training log-prob| of a step (0 = off)
  double logp_difference_limit = 0.05;
};

}  // namespace qgrpo::train
