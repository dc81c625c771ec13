#include "train/options/objective.h"

namespace qgrpo::train {
namespace {

void describe_policy_term(ObjectiveOptions& o, OptionSet& set) {
  set.number("epsilon", o.epsilon, "X", "Clipping range of the importance ratio")
      .within(0, 1e6, "a number >= 0")
      .decides();
  set.number("epsilon_high", o.epsilon_high, "X",
             "Its upper end (default: --epsilon); with cispo the bound of the ratio itself")
      .above(0, 1e6, "a number > 0")
      .decides([&o] { return fmt::format("{}", o.epsilon_high.value_or(o.epsilon)); });
  set.number("delta", o.delta, "X", "Bound of the unclipped ratio, at least 1 + epsilon_high")
      .test([&o] {
        const double least = 1.0 + o.epsilon_high.value_or(o.epsilon);
        require(!o.delta || (*o.delta >= least && *o.delta <= 1e6),
                "found {}, expected a bound of the ratio that is not below 1 + epsilon_high",
                o.delta.value_or(0.0));
      })
      .decides([&o] { return fmt::format("{}", o.delta.value_or(0.0)); });
  set.choice("loss_type", o.loss_type, kLossTypeNames, kLossTypeNames.expected()).decides();
  set.choice("importance_sampling_level", o.importance_sampling_level, kImportanceLevelNames,
             "token, or sequence: one ratio a completion (GSPO)")
      .decides();
  set.whole("num_iterations", o.num_iterations, "N", "Optimizer steps on each round of sampling")
      .within(1, 1 << 16, "steps on each round of sampling")
      .decides();
  set.number("top_entropy_quantile", o.top_entropy_quantile, "X",
             "Learn from this part of the tokens, those of the highest entropy; 1 = all")
      .above(0, 1, "0 < quantile <= 1 (1 is all tokens)")
      .decides();
}

}  // namespace

void describe(ObjectiveOptions& o, OptionSet& set) {
  set.group("Objective");
  set.number("beta", o.beta, "X", "Weight of the KL to the reference; 0 = no reference pass")
      .within(0, 1e6, "a number >= 0 (0 is off)")
      .decides();
  set.choice("reference", o.reference, kReferenceNames,
             "What the KL is taken to: base, or adapter: --adapter as it was, frozen")
      .decides([&o] {
        return std::string(kReferenceNames.name(o.beta == 0.0 ? Reference::base : o.reference));
      });
  describe_policy_term(o, set);
  set.flag("mask_truncated_completions", o.mask_truncated_completions,
           "Leave completions that hit the length limit out of the loss")
      .decides();
  set.flag("dynamic_sampling", o.dynamic_sampling,
           "Replace groups whose rewards are all equal by those of further prompts (DAPO)")
      .decides();
  set.whole("max_resample_batches", o.max_resample_batches, "N",
            "Rounds of sampling that --dynamic-sampling may add to a step")
      .within(1, 1 << 16, "rounds of sampling")
      .decides();
  set.choice("loss_form", o.loss_form, kLossFormNames,
             "now: log-probs at the sampling temperature; then: at temperature 1, plain KL")
      .decides();
  set.flag("use_bias_correction_kl", o.use_bias_correction_kl,
           "Multiply the KL term by the importance ratio")
      .decides();
  set.choice("scale_rewards", o.scale_rewards, kScaleRewardsNames,
             "Divide advantages by the deviation of the group, the batch, or none")
      .decides();
  set.number("logp_difference_limit", o.logp_difference_limit, "X",
             "Stop where sampling and training disagree by more (mean |log-prob|); 0 = off")
      .within(0, 1e6, "a number >= 0 (0 is off)");
}

}  // namespace qgrpo::train
