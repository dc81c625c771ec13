#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/io/enum_names.h"
#include "model/ops/objective.h"
#include "train/objective/loss_weights.h"

// The policy objective of a run: TRL's loss_type, importance_sampling_level and
// top_entropy_quantile in one place. The trainer asks it two things: what a completion's tokens
// contribute, and whether that can be told token by token (then the head's kernel evaluates it on
// the way) or only from whole completions (then the log-probs are taken first).
namespace qgrpo::train {

// TRL's importance_sampling_level.
enum class ImportanceLevel {
  token,    // r_t = exp(logp_t - old_t)
  sequence  // r = exp(mean over the completion of logp - old), the same for its tokens (GSPO)
};

inline constexpr auto kImportanceLevelNames = io::enum_names<ImportanceLevel>(
    {{ImportanceLevel::token, "token"}, {ImportanceLevel::sequence, "sequence"}});

struct PolicyObjective {
  LossType type = LossType::grpo;
  ImportanceLevel level = ImportanceLevel::token;
  ObjectiveParams params;  // kind and on_policy are set from the rest
  // The policy term counts only on tokens whose entropy is at least the (1 - q) quantile of the
  // micro-batch's entropies; 1 = all. The KL term counts everywhere.
  double top_entropy_quantile = 1.0;

  // The kind of P that the loss type names, model/ops/objective.h.
  ObjectiveKind kind() const;
  // Whether a token's term depends on the rest of its completion or micro-batch.
  bool needs_completions(bool on_policy) const;
};

// What one completion's terms are computed from; spans of the same length n.
struct CompletionTerms {
  std::span<const float> logprob;
  std::span<const float> old;        // empty: on-policy
  std::span<const float> reference;  // may be empty where beta = 0
  float advantage = 0.0f;
  std::span<const float> entropy;  // may be empty where entropy_threshold is not used
  double entropy_threshold = 0.0;  // tokens below it have no policy term
};

// The n tokens' objectives. With a sequence ratio c = exp(mean of logp - old) the derivative of the
// sum of the tokens' losses with respect to logp_t is
//   dP(c) c  +  beta (1 - exp(d_t))                        or, with kl_bias_correction,
//   dP(c) c  +  beta (c mean_s k3_s + c (1 - exp(d_t)))
//
// vespo, where (k, l) = (2, 3) if A >= 0, else (3, 2):
//   log w = clamp(sum over s of clamp(logp_s - old_s, -20, 20), log 1e-8, 20)
//   phi   = exp(l + k log w - l w)
//   P     = -stop(phi) A logp
std::vector<TokenObjective<float>> completion_objective(const PolicyObjective& objective,
                                                        const CompletionTerms& terms);

// The (1 - q) quantile of the entropies by linear interpolation, as torch.quantile; -infinity for
// q = 1 or no values.
double entropy_threshold(std::vector<float> entropies, double top_entropy_quantile);

}  // namespace qgrpo::train
