#include "train/objective/policy_gradient.h"

#include <algorithm>

#include "model/ops/error.h"
#include "train/objective/micro_batch.h"

namespace qgrpo::train {
namespace {

// Weights of each group's completions' tokens; a chunk is what TRL calls a micro-batch.
std::vector<std::vector<double>> weights_of(std::span<const Group> groups,
                                            const UpdateSettings& settings) {
  std::vector<std::vector<double>> weights;
  for (std::size_t begin = 0; begin < groups.size(); begin += settings.groups_per_chunk) {
    const std::size_t end = std::min(groups.size(), begin + settings.groups_per_chunk);
    std::vector<std::int64_t> lengths;
    for (std::size_t g = begin; g < end; ++g) {
      for (const auto& completion : groups[g].completions)
        lengths.push_back(completion.counted ? std::ssize(completion.ids) : 0);
    }
    LossNormalization normalization = settings.normalization;
    normalization.type = settings.objective.type;
    const auto flat = token_weights(lengths, normalization);
    std::size_t at = 0;
    for (std::size_t g = begin; g < end; ++g) {
      weights.emplace_back();
      for (std::size_t c = 0; c < groups[g].completions.size(); ++c)
        weights.back().push_back(flat[at++]);
    }
  }
  return weights;
}

bool on_policy(std::span<const Group> groups) {
  for (const Group& group : groups) {
    for (const auto& completion : group.completions) {
      if (!completion.old_logprobs.empty()) return false;
    }
  }
  return true;
}

// One call of accumulate_policy_gradient.
class Update {
 public:
  Update(model::TrainingPass& pass, const model::Model& model, std::span<const Group> groups,
         const UpdateSettings& settings)
      : pass_(&pass),
        model_(&model),
        groups_(groups),
        settings_(&settings),
        params_(settings.objective.params),
        weights_(weights_of(groups, settings)),
        records_(groups),
        reference_(groups) {
    params_.kind = settings.objective.kind();
    params_.on_policy = on_policy(groups);
    by_completions_ = settings.objective.needs_completions(params_.on_policy);
  }

  UpdateStatistics run(const model::ModelGradients& gradients) {
    auto batches = make_micro_batches(groups_, pass_->capacity());
    const std::int64_t skipped = drop_without_signal(batches);
    if (settings_->objective.top_entropy_quantile < 1.0) find_entropy_thresholds(batches);
    std::int64_t computed_tokens = 0;
    for (const auto& parts : batches) computed_tokens += run_policy(parts, gradients);
    UpdateStatistics out = statistics_of(groups_, records_, weights_, settings_->objective.level,
                                         settings_->groups_per_chunk);
    out.computed_tokens = computed_tokens;
    out.passes = static_cast<std::int64_t>(batches.size());
    out.skipped_groups = skipped;
    return out;
  }

  TokenLogprobs logprobs() const {
    TokenLogprobs out{PerToken<float>(groups_), reference_};
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      for (std::size_t c = 0; c < groups_[g].completions.size(); ++c) {
        std::ranges::transform(records_.of(g, c), out.policy.of(g, c).begin(),
                               [](const TokenRecord& record) { return record.head.logprob; });
      }
    }
    return out;
  }

 private:
  using Parts = std::vector<Part>;

  // The micro-batches stay as they were cut with all groups, so that the sums of the others run in
  // the same order.
  std::int64_t drop_without_signal(std::vector<Parts>& batches) const {
    if (params_.beta != 0.0f) return 0;
    std::int64_t skipped = 0;
    for (const Group& group : groups_) skipped += has_signal(group) ? 0 : 1;
    for (Parts& parts : batches) {
      std::erase_if(parts, [&](const Part& part) { return !has_signal(groups_[part.group]); });
    }
    std::erase_if(batches, [](const Parts& parts) { return parts.empty(); });
    return skipped;
  }

  std::vector<HeadResult> head_results(const Packed& packed, ConstTensorView hidden) {
    std::vector<HeadResult> results(packed.entries.size());
    model_->backend().train().head_logprob(results, hidden, model_->head_linear(), packed.entries,
                                           settings_->temperature);
    return results;
  }

  // Both policies in one sweep over the weights.
  void run_forward(const Packed& packed) {
    if (params_.beta == 0.0f) {
      pass_->forward(packed.batch, /*gradient=*/true);
      return;
    }
    pass_->forward_with_reference(packed.batch, settings_->reference_adapter);
    const auto results = head_results(packed, pass_->reference_hidden(packed.rows));
    for (std::size_t i = 0; i < results.size(); ++i) {
      reference_.at(packed.sources[i]) = results[i].logprob;
    }
  }

  // The quantile is over a chunk, which may lie in several micro-batches.
  void find_entropy_thresholds(const std::vector<Parts>& batches) {
    const std::size_t per_chunk = settings_->groups_per_chunk;
    std::vector<std::vector<float>> entropies((groups_.size() + per_chunk - 1) / per_chunk);
    for (const Parts& parts : batches) {
      const Packed packed = pack(groups_, parts, settings_->policy_adapter);
      pass_->forward(packed.batch, /*gradient=*/false);
      const auto results = head_results(packed, pass_->hidden(packed.rows));
      for (std::size_t i = 0; i < results.size(); ++i) {
        const TokenPlace& s = packed.sources[i];
        if (groups_[s.group].completions[s.completion].counted)
          entropies[s.group / per_chunk].push_back(results[i].entropy);
      }
    }
    for (auto& chunk : entropies) {
      thresholds_.push_back(
          entropy_threshold(std::move(chunk), settings_->objective.top_entropy_quantile));
    }
  }

  // Returns the rows computed.
  std::int64_t run_policy(const Parts& parts, const model::ModelGradients& gradients) {
    const Packed packed = pack(groups_, parts, settings_->policy_adapter);
    run_forward(packed);
    const TensorView hidden = pass_->hidden(packed.rows);
    if (by_completions_) evaluate_completions(parts, packed, head_results(packed, hidden));

    std::vector<ObjectiveEntry> terms;
    terms.reserve(packed.sources.size());
    for (const TokenPlace& s : packed.sources) terms.push_back(term_of(s));
    ObjectiveParams params = params_;
    if (by_completions_) {
      // The derivatives are known: L = -(-dL/dlogp) logp has them.
      params = {};
      params.kind = ObjectiveKind::policy_gradient;
    }
    std::vector<HeadResult> results(packed.entries.size());
    std::vector<TokenObjective<float>> objectives(packed.entries.size());
    model_->backend().train().head_objective(results, objectives, pass_->dhidden(),
                                             gradients.dlm_head, hidden, model_->head_linear(),
                                             packed.entries, terms, params, settings_->temperature);
    pass_->backward(gradients);
    for (std::size_t i = 0; i < results.size(); ++i) {
      TokenRecord& record = records_.at(packed.sources[i]);
      record.head = results[i];
      record.computed = true;
      if (!by_completions_) record.objective = objectives[i];
    }
    return packed.batch.size();
  }

  ObjectiveEntry term_of(const TokenPlace& s) const {
    const GroupCompletion& completion = groups_[s.group].completions[s.completion];
    ObjectiveEntry term;
    term.weight = static_cast<float>(weights_[s.group][s.completion]);
    if (by_completions_) {
      term.advantage = -records_.at(s).objective.dlogprob;
      return term;
    }
    term.advantage = completion.advantage;
    term.reference_logprob = reference_.at(s);
    if (!params_.on_policy) term.old_logprob = completion.old_logprobs[s.token];
    return term;
  }

  void evaluate_completions(const Parts& parts, const Packed& packed,
                            std::span<const HeadResult> results) {
    PerToken<float> logprob(groups_);
    PerToken<float> entropy(groups_);
    for (std::size_t i = 0; i < results.size(); ++i) {
      logprob.at(packed.sources[i]) = results[i].logprob;
      entropy.at(packed.sources[i]) = results[i].entropy;
    }
    for (const Part& part : parts) {
      for (std::size_t c = part.begin; c < part.end; ++c) {
        const GroupCompletion& completion = groups_[part.group].completions[c];
        CompletionTerms terms;
        terms.logprob = logprob.of(part.group, c);
        if (!params_.on_policy) terms.old = completion.old_logprobs;
        if (params_.beta != 0.0f) terms.reference = reference_.of(part.group, c);
        terms.advantage = completion.advantage;
        if (!thresholds_.empty()) {
          terms.entropy = entropy.of(part.group, c);
          terms.entropy_threshold = thresholds_[part.group / settings_->groups_per_chunk];
        }
        const auto objectives = completion_objective(settings_->objective, terms);
        const std::span<TokenRecord> tokens = records_.of(part.group, c);
        for (std::size_t t = 0; t < objectives.size(); ++t) tokens[t].objective = objectives[t];
      }
    }
  }

  model::TrainingPass* pass_;
  const model::Model* model_;
  std::span<const Group> groups_;
  const UpdateSettings* settings_;
  ObjectiveParams params_;
  bool by_completions_ = false;
  std::vector<std::vector<double>> weights_;
  PerToken<TokenRecord> records_;
  PerToken<float> reference_;
  std::vector<double> thresholds_;  // of the entropies, by chunk; empty = all tokens count
};

}  // namespace

bool has_signal(const Group& group) {
  return std::any_of(group.completions.begin(), group.completions.end(),
                     [](const GroupCompletion& c) { return c.counted && c.advantage != 0.0f; });
}

UpdateStatistics accumulate_policy_gradient(model::TrainingPass& pass, const model::Model& model,
                                            const model::ModelGradients& gradients,
                                            std::span<const Group> groups,
                                            const UpdateSettings& settings,
                                            TokenLogprobs* logprobs) {
  require(!groups.empty() && settings.groups_per_chunk > 0,
          "internal error: a step without groups");
  Update update(pass, model, groups, settings);
  const UpdateStatistics out = update.run(gradients);
  if (logprobs != nullptr) *logprobs = update.logprobs();
  return out;
}

}  // namespace qgrpo::train
