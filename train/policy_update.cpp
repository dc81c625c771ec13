#include "train/policy_update.h"

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
        lengths.push_back(length(completion.ids));
    }
    const auto flat = token_weights(lengths, settings.normalization);
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

UpdateStatistics statistics_of(std::span<const Group> groups, const TokenRecords& records,
                               const std::vector<std::vector<double>>& weights,
                               const UpdateSettings& settings) {
  UpdateStatistics out;
  std::int64_t chunks = 0;
  for (std::size_t begin = 0; begin < groups.size();
       begin += static_cast<std::size_t>(settings.groups_per_chunk)) {
    const std::size_t end =
        std::min(groups.size(), begin + static_cast<std::size_t>(settings.groups_per_chunk));
    double kl = 0.0;
    double entropy = 0.0;
    double low = 0.0;
    double high = 0.0;
    std::int64_t tokens = 0;
    for (std::size_t g = begin; g < end; ++g) {
      for (std::size_t c = 0; c < groups[g].completions.size(); ++c) {
        for (const TokenRecord& record : records[g][c]) {
          out.loss += weights[g][c] * static_cast<double>(record.objective.loss);
          kl += static_cast<double>(record.objective.kl);
          entropy += static_cast<double>(record.head.entropy);
          low += record.objective.clipped_low ? 1.0 : 0.0;
          high += record.objective.clipped_high ? 1.0 : 0.0;
          ++tokens;
        }
      }
    }
    const auto n = static_cast<double>(tokens);
    out.kl += kl / n;
    out.entropy += entropy / n;
    out.clip_low_mean += low / n;
    out.clip_high_mean += high / n;
    out.clip_region_mean += (low + high) / n;
    out.clip_low_min = chunks == 0 ? low / n : std::min(out.clip_low_min, low / n);
    out.clip_high_max = chunks == 0 ? high / n : std::max(out.clip_high_max, high / n);
    out.completion_tokens += tokens;
    ++chunks;
  }
  for (double* mean :
       {&out.kl, &out.entropy, &out.clip_low_mean, &out.clip_high_mean, &out.clip_region_mean}) {
    *mean /= static_cast<double>(chunks);
  }
  add_sampling_statistics(out, groups, records);
  return out;
}

}  // namespace

UpdateStatistics accumulate_policy_gradient(model::TrainingPass& pass, const model::Model& model,
                                            const model::ModelGradients& gradients,
                                            std::span<const Group> groups,
                                            const UpdateSettings& settings,
                                            TokenLogprobs* logprobs) {
  require(!groups.empty() && settings.groups_per_chunk > 0,
          "internal error: a step without groups");
  TrainOps& ops = model.backend().train();
  const Linear head = model.head_linear();
  const auto weights = weights_of(groups, settings);
  const bool has_reference = settings.objective.beta != 0.0f;
  TokenRecords records = per_token(groups, TokenRecord{});
  auto reference = per_token(groups, 0.0f);
  std::int64_t computed_tokens = 0;

  const auto batches = make_micro_batches(groups, pass.capacity());
  for (const auto& parts : batches) {
    if (has_reference) {
      const Packed packed = pack(groups, parts, settings.reference_adapter);
      pass.forward(packed.batch, /*gradient=*/false);
      std::vector<HeadResult> results(packed.entries.size());
      ops.head_logprob(results, pass.hidden(packed.rows), head, packed.entries,
                       settings.temperature);
      for (std::size_t i = 0; i < results.size(); ++i) {
        const auto& s = packed.sources[i];
        reference[s.group][s.completion][s.token] = results[i].logprob;
      }
    }
    const Packed packed = pack(groups, parts, settings.policy_adapter);
    computed_tokens += packed.batch.size();
    std::vector<ObjectiveEntry> terms;
    terms.reserve(packed.sources.size());
    for (const auto& s : packed.sources) {
      ObjectiveEntry term;
      term.weight = static_cast<float>(weights[s.group][s.completion]);
      term.advantage = groups[s.group].completions[s.completion].advantage;
      term.reference_logprob = reference[s.group][s.completion][s.token];
      terms.push_back(term);
    }
    std::vector<HeadResult> results(packed.entries.size());
    std::vector<TokenObjective<float>> objectives(packed.entries.size());
    pass.forward(packed.batch, /*gradient=*/true);
    const TensorView hidden = pass.hidden(packed.rows);
    ops.head_objective(results, objectives, pass.dhidden(), gradients.dlm_head, hidden, head,
                       packed.entries, terms, settings.objective, settings.temperature);
    pass.backward(gradients);
    for (std::size_t i = 0; i < results.size(); ++i) {
      const auto& s = packed.sources[i];
      records[s.group][s.completion][s.token] = {results[i], objectives[i]};
    }
  }

  UpdateStatistics out = statistics_of(groups, records, weights, settings);
  out.computed_tokens = computed_tokens;
  out.passes = static_cast<std::int64_t>(batches.size());
  if (logprobs != nullptr) {
    logprobs->policy = per_token(groups, 0.0f);
    for (std::size_t g = 0; g < groups.size(); ++g) {
      for (std::size_t c = 0; c < groups[g].completions.size(); ++c) {
        for (std::size_t t = 0; t < records[g][c].size(); ++t) {
          logprobs->policy[g][c][t] = records[g][c][t].head.logprob;
        }
      }
    }
    logprobs->reference = std::move(reference);
  }
  return out;
}

}  // namespace qgrpo::train
