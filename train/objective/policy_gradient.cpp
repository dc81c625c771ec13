#include "train/objective/policy_gradient.h"

#include <algorithm>
#include <cmath>

#include "model/ops/error.h"

namespace qgrpo::train {
namespace {

// Completions [begin, end) of a group, computed behind one copy of its prompt.
struct Part {
  std::size_t group = 0;
  std::size_t begin = 0;
  std::size_t end = 0;
  std::int64_t tokens = 0;
};

std::int64_t length(const std::vector<std::int32_t>& ids) {
  return static_cast<std::int64_t>(ids.size());
}

// Cuts the groups into parts and these into micro-batches of at most `capacity` tokens, all in
// order.
std::vector<std::vector<Part>> make_micro_batches(std::span<const Group> groups,
                                                  const model::PassCapacity& capacity) {
  std::vector<std::vector<Part>> batches;
  std::int64_t used = 0;
  std::int64_t used_rows = 0;
  const auto place = [&](const Part& part, std::int64_t rows) {
    if (batches.empty() || used + part.tokens > capacity.tokens ||
        used_rows + rows > capacity.head_rows) {
      batches.emplace_back();
      used = 0;
      used_rows = 0;
    }
    batches.back().push_back(part);
    used += part.tokens;
    used_rows += rows;
  };
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const Group& group = groups[g];
    const std::int64_t prompt = length(group.prompt_ids);
    Part part{g, 0, 0, prompt};
    std::int64_t rows = 0;
    for (std::size_t c = 0; c < group.completions.size(); ++c) {
      const std::int64_t n = length(group.completions[c].ids);
      require(n > 0 && prompt > 0, "internal error: an empty prompt or completion");
      require(prompt + n <= capacity.tokens && n <= capacity.head_rows,
              "a prompt of {} tokens with a completion of {} does not fit a micro-batch of {} "
              "tokens; raise "
              "--micro-batch-tokens, --max-prompt-length or --max-completion-length",
              prompt, n, capacity.tokens);
      if (part.tokens + n > capacity.tokens || rows + n > capacity.head_rows) {
        place(part, rows);
        part = {g, c, c, prompt};
        rows = 0;
      }
      part.tokens += n;
      rows += n;
      part.end = c + 1;
    }
    place(part, rows);
  }
  return batches;
}

// A micro-batch, packed: the tokens, the rows that predict one, and which completion's token each
// entry is.
struct Packed {
  struct Source {
    std::size_t group = 0;
    std::size_t completion = 0;
    std::size_t token = 0;
  };
  Batch batch;
  std::vector<std::int32_t> rows;  // of the batch, rising
  std::vector<HeadEntry> entries;  // sorted by row (an index into rows)
  std::vector<Source> sources;     // one an entry
};

Packed pack(std::span<const Group> groups, std::span<const Part> parts, std::int32_t adapter) {
  Packed packed;
  for (const Part& part : parts) {
    const Group& group = groups[part.group];
    const std::int32_t prompt = packed.batch.add(group.prompt_ids, adapter);
    const auto head_row = [&](std::int32_t token) {
      packed.rows.push_back(token);
      return static_cast<std::int32_t>(packed.rows.size()) - 1;
    };
    // The prompt's last row predicts the first token of every completion.
    const std::int32_t last = head_row(packed.batch.segments.back().end() - 1);
    for (std::size_t c = part.begin; c < part.end; ++c) {
      packed.entries.push_back({last, group.completions[c].ids[0]});
      packed.sources.push_back({part.group, c, 0});
    }
    for (std::size_t c = part.begin; c < part.end; ++c) {
      const auto& ids = group.completions[c].ids;
      const std::int32_t segment = packed.batch.add(ids, adapter, prompt);
      const std::int32_t begin = packed.batch.segments[static_cast<std::size_t>(segment)].begin;
      for (std::size_t t = 1; t < ids.size(); ++t) {
        packed.entries.push_back({head_row(begin + static_cast<std::int32_t>(t) - 1), ids[t]});
        packed.sources.push_back({part.group, c, t});
      }
    }
  }
  return packed;
}

// Per token of every completion of the groups: [group][completion][token].
template <typename T>
std::vector<std::vector<std::vector<T>>> per_token(std::span<const Group> groups, T initial) {
  std::vector<std::vector<std::vector<T>>> out;
  for (const Group& group : groups) {
    out.emplace_back();
    for (const auto& completion : group.completions)
      out.back().emplace_back(completion.ids.size(), initial);
  }
  return out;
}

struct TokenRecord {
  HeadResult head;
  TokenObjective<float> objective;
  bool computed = false;
};
using TokenRecords = std::vector<std::vector<std::vector<TokenRecord>>>;

// Weights of each group's completions' tokens; a chunk is what TRL calls a micro-batch.
std::vector<std::vector<double>> weights_of(std::span<const Group> groups,
                                            const UpdateSettings& settings) {
  std::vector<std::vector<double>> weights;
  for (std::size_t begin = 0; begin < groups.size();
       begin += static_cast<std::size_t>(settings.groups_per_chunk)) {
    const std::size_t end =
        std::min(groups.size(), begin + static_cast<std::size_t>(settings.groups_per_chunk));
    std::vector<std::int64_t> lengths;
    for (std::size_t g = begin; g < end; ++g) {
      for (const auto& completion : groups[g].completions)
        lengths.push_back(completion.counted ? length(completion.ids) : 0);
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

void add_sampling_statistics(UpdateStatistics& out, std::span<const Group> groups,
                             const TokenRecords& records) {
  double sum = 0.0;
  double ratio_sum = 0.0;
  std::int64_t count = 0;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    for (std::size_t c = 0; c < groups[g].completions.size(); ++c) {
      const auto& sampled = groups[g].completions[c].sampling_logprobs;
      for (std::size_t t = 0; t < sampled.size(); ++t) {
        if (!records[g][c][t].computed) continue;
        const double difference =
            static_cast<double>(records[g][c][t].head.logprob) - static_cast<double>(sampled[t]);
        const double ratio = std::exp(difference);
        if (count == 0) out.ratio_min = out.ratio_max = ratio;
        out.ratio_min = std::min(out.ratio_min, ratio);
        out.ratio_max = std::max(out.ratio_max, ratio);
        out.logp_difference_max = std::max(out.logp_difference_max, std::fabs(difference));
        sum += std::fabs(difference);
        ratio_sum += ratio;
        ++count;
      }
    }
  }
  out.has_sampling = count > 0;
  if (count > 0) {
    out.logp_difference_mean = sum / static_cast<double>(count);
    out.ratio_mean = ratio_sum / static_cast<double>(count);
  }
}

// Sums over the completions of a chunk.
struct ChunkSums {
  double kl = 0.0, entropy = 0.0;
  double low = 0.0, high = 0.0;          // of tokens, or of completions with a sequence ratio
  double low_min = 1.0, high_max = 0.0;  // of the completions' means
  double tokens = 0.0, units = 0.0;      // what kl and entropy, what low and high are divided by
};

void add_completion(ChunkSums& sums, std::span<const TokenRecord> tokens, bool by_sequence) {
  double low = 0.0, high = 0.0;
  for (const TokenRecord& record : tokens) {
    sums.kl += static_cast<double>(record.objective.kl);
    sums.entropy += static_cast<double>(record.head.entropy);
    low += record.objective.clipped_low ? 1.0 : 0.0;
    high += record.objective.clipped_high ? 1.0 : 0.0;
  }
  const auto n = static_cast<double>(tokens.size());
  sums.tokens += n;
  sums.units += by_sequence ? 1.0 : n;
  sums.low += by_sequence ? low / n : low;
  sums.high += by_sequence ? high / n : high;
  sums.low_min = std::min(sums.low_min, low / n);
  sums.high_max = std::max(sums.high_max, high / n);
}

UpdateStatistics statistics_of(std::span<const Group> groups, const TokenRecords& records,
                               const std::vector<std::vector<double>>& weights,
                               const UpdateSettings& settings) {
  UpdateStatistics out;
  const bool by_sequence = settings.objective.level == ImportanceLevel::sequence;
  std::int64_t chunks = 0;
  for (std::size_t begin = 0; begin < groups.size();
       begin += static_cast<std::size_t>(settings.groups_per_chunk)) {
    const std::size_t end =
        std::min(groups.size(), begin + static_cast<std::size_t>(settings.groups_per_chunk));
    ChunkSums sums;
    for (std::size_t g = begin; g < end; ++g) {
      for (std::size_t c = 0; c < groups[g].completions.size(); ++c) {
        const GroupCompletion& completion = groups[g].completions[c];
        out.completion_tokens += length(completion.ids);
        const std::span<const TokenRecord> tokens = records[g][c];
        if (tokens.empty() || !tokens.front().computed || !completion.counted) continue;
        for (const TokenRecord& record : tokens) {
          out.loss += weights[g][c] * static_cast<double>(record.objective.loss);
        }
        add_completion(sums, tokens, by_sequence);
      }
    }
    if (sums.tokens == 0.0) continue;
    out.kl += sums.kl / sums.tokens;
    out.entropy += sums.entropy / sums.tokens;
    out.clip_low_mean += sums.low / sums.units;
    out.clip_high_mean += sums.high / sums.units;
    out.clip_region_mean += (sums.low + sums.high) / sums.units;
    out.clip_low_min = chunks == 0 ? sums.low_min : std::min(out.clip_low_min, sums.low_min);
    out.clip_high_max = chunks == 0 ? sums.high_max : std::max(out.clip_high_max, sums.high_max);
    ++chunks;
  }
  for (double* mean :
       {&out.kl, &out.entropy, &out.clip_low_mean, &out.clip_high_mean, &out.clip_region_mean}) {
    if (chunks > 0) *mean /= static_cast<double>(chunks);
  }
  add_sampling_statistics(out, groups, records);
  return out;
}

bool on_policy(std::span<const Group> groups) {
  for (const Group& group : groups) {
    for (const auto& completion : group.completions) {
      if (!completion.old_logprobs.empty()) return false;
    }
  }
  return true;
}

bool has_signal(const Group& group) {
  return std::any_of(group.completions.begin(), group.completions.end(),
                     [](const GroupCompletion& c) { return c.counted && c.advantage != 0.0f; });
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
        records_(per_token(groups, TokenRecord{})),
        reference_(per_token(groups, 0.0f)) {
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
    UpdateStatistics out = statistics_of(groups_, records_, weights_, *settings_);
    out.computed_tokens = computed_tokens;
    out.passes = static_cast<std::int64_t>(batches.size());
    out.skipped_groups = skipped;
    return out;
  }

  TokenLogprobs logprobs() const {
    TokenLogprobs out{per_token(groups_, 0.0f), reference_};
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      for (std::size_t c = 0; c < groups_[g].completions.size(); ++c) {
        for (std::size_t t = 0; t < records_[g][c].size(); ++t) {
          out.policy[g][c][t] = records_[g][c][t].head.logprob;
        }
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
      const auto& s = packed.sources[i];
      reference_[s.group][s.completion][s.token] = results[i].logprob;
    }
  }

  // The quantile is over a chunk, which may lie in several micro-batches.
  void find_entropy_thresholds(const std::vector<Parts>& batches) {
    const auto per_chunk = static_cast<std::size_t>(settings_->groups_per_chunk);
    std::vector<std::vector<float>> entropies((groups_.size() + per_chunk - 1) / per_chunk);
    for (const Parts& parts : batches) {
      const Packed packed = pack(groups_, parts, settings_->policy_adapter);
      pass_->forward(packed.batch, /*gradient=*/false);
      const auto results = head_results(packed, pass_->hidden(packed.rows));
      for (std::size_t i = 0; i < results.size(); ++i) {
        const auto& s = packed.sources[i];
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
    for (const auto& s : packed.sources) terms.push_back(term_of(s));
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
      const auto& s = packed.sources[i];
      TokenRecord& record = records_[s.group][s.completion][s.token];
      record.head = results[i];
      record.computed = true;
      if (!by_completions_) record.objective = objectives[i];
    }
    return packed.batch.size();
  }

  template <typename Source>
  ObjectiveEntry term_of(const Source& s) const {
    const GroupCompletion& completion = groups_[s.group].completions[s.completion];
    ObjectiveEntry term;
    term.weight = static_cast<float>(weights_[s.group][s.completion]);
    if (by_completions_) {
      term.advantage = -records_[s.group][s.completion][s.token].objective.dlogprob;
      return term;
    }
    term.advantage = completion.advantage;
    term.reference_logprob = reference_[s.group][s.completion][s.token];
    if (!params_.on_policy) term.old_logprob = completion.old_logprobs[s.token];
    return term;
  }

  void evaluate_completions(const Parts& parts, const Packed& packed,
                            std::span<const HeadResult> results) {
    auto logprob = per_token(groups_, 0.0f);
    auto entropy = per_token(groups_, 0.0f);
    for (std::size_t i = 0; i < results.size(); ++i) {
      const auto& s = packed.sources[i];
      logprob[s.group][s.completion][s.token] = results[i].logprob;
      entropy[s.group][s.completion][s.token] = results[i].entropy;
    }
    for (const Part& part : parts) {
      for (std::size_t c = part.begin; c < part.end; ++c) {
        const GroupCompletion& completion = groups_[part.group].completions[c];
        CompletionTerms terms;
        terms.logprob = logprob[part.group][c];
        if (!params_.on_policy) terms.old = completion.old_logprobs;
        if (params_.beta != 0.0f) terms.reference = reference_[part.group][c];
        terms.advantage = completion.advantage;
        if (!thresholds_.empty()) {
          terms.entropy = entropy[part.group][c];
          terms.entropy_threshold =
              thresholds_[part.group / static_cast<std::size_t>(settings_->groups_per_chunk)];
        }
        const auto objectives = completion_objective(settings_->objective, terms);
        for (std::size_t t = 0; t < objectives.size(); ++t)
          records_[part.group][c][t].objective = objectives[t];
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
  TokenRecords records_;
  std::vector<std::vector<std::vector<float>>> reference_;
  std::vector<double> thresholds_;  // of the entropies, by chunk; empty = all tokens count
};

}  // namespace

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
