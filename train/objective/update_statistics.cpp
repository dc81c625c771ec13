#include "train/objective/update_statistics.h"

#include <algorithm>
#include <cmath>

namespace qgrpo::train {
namespace {

void add_sampling_statistics(UpdateStatistics& out, std::span<const Group> groups,
                             const PerToken<TokenRecord>& records) {
  double sum = 0.0;
  double ratio_sum = 0.0;
  std::int64_t count = 0;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    for (std::size_t c = 0; c < groups[g].completions.size(); ++c) {
      const auto& sampled = groups[g].completions[c].sampling_logprobs;
      const std::span<const TokenRecord> tokens = records.of(g, c);
      for (std::size_t t = 0; t < sampled.size(); ++t) {
        if (!tokens[t].computed) continue;
        const double difference =
            static_cast<double>(tokens[t].head.logprob) - static_cast<double>(sampled[t]);
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

}  // namespace

UpdateStatistics statistics_of(std::span<const Group> groups, const PerToken<TokenRecord>& records,
                               const std::vector<std::vector<double>>& weights,
                               ImportanceLevel level, std::size_t groups_per_chunk) {
  UpdateStatistics out;
  const bool by_sequence = level == ImportanceLevel::sequence;
  std::int64_t chunks = 0;
  for (std::size_t begin = 0; begin < groups.size(); begin += groups_per_chunk) {
    const std::size_t end = std::min(groups.size(), begin + groups_per_chunk);
    ChunkSums sums;
    for (std::size_t g = begin; g < end; ++g) {
      for (std::size_t c = 0; c < groups[g].completions.size(); ++c) {
        const GroupCompletion& completion = groups[g].completions[c];
        out.completion_tokens += static_cast<std::int64_t>(completion.ids.size());
        const std::span<const TokenRecord> tokens = records.of(g, c);
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

}  // namespace qgrpo::train
