#include "cpu/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/head.h"

namespace qgrpo::cpu {
namespace {

using Candidate = SampleScratch::Candidate;

constexpr std::int64_t kSumBlock = 1024;

// Lowers the logits of the seen ids, each once; undone by restore().
void penalize(std::span<float> logits, const SampleRequest& request, SampleScratch& scratch) {
  scratch.penalized.clear();
  const float penalty = request.params.repetition_penalty;
  if (penalty == 1.0f) return;
  require_seen(request, static_cast<std::int64_t>(logits.size()));
  for (const std::int32_t id : request.seen) {
    scratch.penalized.emplace_back(id, logits[static_cast<std::size_t>(id)]);
  }
  // Set from the saved value, so that an id that repeats is lowered once.
  for (const auto& [id, logit] : scratch.penalized) {
    logits[static_cast<std::size_t>(id)] = logit > 0.0f ? logit / penalty : logit * penalty;
  }
}

void restore(std::span<float> logits, const SampleScratch& scratch) {
  for (const auto& [id, logit] : scratch.penalized) logits[static_cast<std::size_t>(id)] = logit;
}

// Sums of exp(z - top) over blocks of the row, and their total.
double block_sums(const LayerKernels& kernels, std::span<const float> logits, float inv, float top,
                  SampleScratch& scratch) {
  scratch.block_sums.clear();
  const auto n = static_cast<std::int64_t>(logits.size());
  double total = 0.0;
  for (std::int64_t i = 0; i < n; i += kSumBlock) {
    const double sum = static_cast<double>(
        kernels.exp_sum(logits.data() + i, std::min(kSumBlock, n - i), inv, top));
    scratch.block_sums.push_back(sum);
    total += sum;
  }
  return total;
}

// The id at which the cumulative sum over the whole vocabulary passes u * total.
std::int32_t draw_full(const LayerKernels& kernels, std::span<const float> logits, float inv,
                       float top, double u, SampleScratch& scratch) {
  double left = u * block_sums(kernels, logits, inv, top, scratch);
  std::size_t block = 0;
  while (block + 1 < scratch.block_sums.size() && left >= scratch.block_sums[block]) {
    left -= scratch.block_sums[block++];
  }
  const std::size_t begin = block * static_cast<std::size_t>(kSumBlock);
  const std::size_t count = std::min(static_cast<std::size_t>(kSumBlock), logits.size() - begin);
  scratch.values.resize(static_cast<std::size_t>(kSumBlock));
  kernels.exp_values(scratch.values.data(), logits.data() + begin, static_cast<std::int64_t>(count),
                     inv, top);
  // The block's float32 sum may lie a rounding above the sum of its parts: then the most likely
  // token of the block takes the difference.
  for (std::size_t i = 0; i < count; ++i) {
    left -= static_cast<double>(scratch.values[i]);
    if (left < 0.0) return static_cast<std::int32_t>(begin + i);
  }
  const auto end = scratch.values.begin() + static_cast<std::ptrdiff_t>(count);
  return static_cast<std::int32_t>(begin) +
         static_cast<std::int32_t>(std::max_element(scratch.values.begin(), end) -
                                   scratch.values.begin());
}

double mass(std::span<const Candidate> candidates) {
  double sum = 0.0;
  for (const Candidate& c : candidates) sum += c.weight;
  return sum;
}

// All ids with z >= floor, in the order of the ids.
void gather(std::span<const float> logits, float inv, float top, float floor,
            std::vector<Candidate>& out) {
  out.clear();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const float z = logits[i] * inv;
    if (z >= floor) {
      out.push_back({z, static_cast<std::int32_t>(i),
                     std::exp(static_cast<double>(z) - static_cast<double>(top))});
    }
  }
}

// The order of top-p: falling, the lower id first among equals.
bool before(const Candidate& a, const Candidate& b) {
  return a.z != b.z ? a.z > b.z : a.id < b.id;
}

// Sorts and cuts `list` after the first element whose cumulative weight reaches `wanted`.
void cut_by_mass(std::vector<Candidate>& list, double wanted) {
  std::sort(list.begin(), list.end(), before);
  double sum = 0.0;
  std::size_t count = 0;
  while (count < list.size() && (count == 0 || sum < wanted)) sum += list[count++].weight;
  list.resize(count);
}

// Top-k: those not below the k-th largest.
void keep_top_k(std::span<const float> logits, float inv, float top, std::size_t k,
                SampleScratch& scratch) {
  std::vector<Candidate>& kept = scratch.candidates;
  // Only tokens near the largest are looked at; the distance doubles until they are enough.
  for (float distance = 8.0f;; distance *= 2.0f) {
    const bool all = distance >= 1024.0f;
    gather(logits, inv, top, all ? -std::numeric_limits<float>::infinity() : top - distance, kept);
    if (all || kept.size() >= k) break;
  }
  scratch.values.clear();
  for (const Candidate& c : kept) scratch.values.push_back(c.z);
  const auto kth = scratch.values.begin() + static_cast<std::ptrdiff_t>(k) - 1;
  std::nth_element(scratch.values.begin(), kth, scratch.values.end(), std::greater<>());
  std::erase_if(kept, [last = *kth](const Candidate& c) { return c.z < last; });
}

// Top-p over the whole vocabulary without sorting it: weights are summed in buckets of 1/16 nat
// below the largest logit, and only the bucket in which the mass is reached is sorted.
void keep_top_p(const LayerKernels& kernels, std::span<const float> logits, float inv, float top,
                double top_p, SampleScratch& scratch) {
  constexpr std::size_t kBuckets = 1024;
  const auto bucket = [&](float z) {
    return static_cast<std::size_t>(std::min((top - z) * 16.0f, static_cast<float>(kBuckets - 1)));
  };
  scratch.values.resize(logits.size());
  kernels.exp_values(scratch.values.data(), logits.data(), static_cast<std::int64_t>(logits.size()),
                     inv, top);
  scratch.block_sums.assign(kBuckets, 0.0);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    scratch.block_sums[bucket(logits[i] * inv)] += static_cast<double>(scratch.values[i]);
  }
  double total = 0.0;
  for (const double sum : scratch.block_sums) total += sum;
  double wanted = top_p * total;  // of what is left below the buckets passed
  std::size_t edge = 0;
  while (edge + 1 < kBuckets && scratch.block_sums[edge] < wanted) {
    wanted -= scratch.block_sums[edge++];
  }

  std::vector<Candidate>& kept = scratch.candidates;
  kept.clear();
  const auto candidate = [&](std::size_t i) {
    return Candidate{logits[i] * inv, static_cast<std::int32_t>(i),
                     static_cast<double>(scratch.values[i])};
  };
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (bucket(logits[i] * inv) == edge) kept.push_back(candidate(i));
  }
  // The bucket cannot be empty: its sum reached what was wanted, or it is the last one and rounding
  // alone was left, and then everything stays.
  if (!kept.empty()) cut_by_mass(kept, wanted);
  const Candidate last =
      kept.empty() ? Candidate{-std::numeric_limits<float>::infinity(), 0, 0.0} : kept.back();
  kept.clear();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const float z = logits[i] * inv;
    if (z > last.z || (z == last.z && static_cast<std::int32_t>(i) <= last.id)) {
      kept.push_back(candidate(i));
    }
  }
}

// What top-k, top-p and min-p leave, in scratch.candidates, by id.
void truncate(const LayerKernels& kernels, std::span<const float> logits, float inv, float top,
              const SamplingParams& params, SampleScratch& scratch) {
  std::vector<Candidate>& kept = scratch.candidates;
  const auto top_p = static_cast<double>(params.top_p);
  if (params.top_k > 0 && static_cast<std::size_t>(params.top_k) < logits.size()) {
    keep_top_k(logits, inv, top, static_cast<std::size_t>(params.top_k), scratch);
    if (params.top_p < 1.0f) {
      cut_by_mass(kept, top_p * mass(kept));
      std::sort(kept.begin(), kept.end(),
                [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
    }
  } else if (params.top_p < 1.0f) {
    keep_top_p(kernels, logits, inv, top, top_p, scratch);
  } else {
    // Min-p alone: a little more than what can stay, the exact test follows.
    gather(logits, inv, top, top + std::log(params.min_p) - 1e-3f, kept);
  }
  if (params.min_p > 0.0f) {
    std::erase_if(kept, [&](const Candidate& c) {
      return std::exp(static_cast<double>(c.z) - static_cast<double>(top)) <
             static_cast<double>(params.min_p);
    });
  }
}

}  // namespace

SampledToken sample_row(const GemmContext& gemm, const LayerKernels& kernels,
                        std::span<float> logits, const SampleRequest& request,
                        SampleScratch& scratch) {
  const SamplingParams& params = request.params;
  require_sampling(params);
  const auto vocab = static_cast<std::int64_t>(logits.size());
  bool finite = true;
  kernels.max_finite(logits.data(), vocab, &finite);
  if (!finite) require_drawn(kLogitsNotFinite, request);

  const bool greedy = params.temperature == 0.0f;
  const float inv = greedy ? 1.0f : inverse_temperature(params.temperature);
  const RowStatistics policy = row_logsumexp(gemm, logits, inv);
  const RowStatistics plain = inv == 1.0f ? policy : row_logsumexp(gemm, logits, 1.0f);
  if (!std::isfinite(policy.log_sum_exp)) require_drawn(kTemperatureOverflow, request);

  SampledToken out;
  penalize(logits, request, scratch);
  const float largest = kernels.max_finite(logits.data(), vocab, &finite);
  const float top = largest * inv;
  if (!finite || !std::isfinite(top)) {
    restore(logits, scratch);
    require_drawn(kPenaltyOverflow, request);
  }
  const bool cut =
      (params.top_k > 0 && params.top_k < vocab) || params.top_p < 1.0f || params.min_p > 0.0f;
  bool as_policy = false;
  if (greedy) {
    out.token = static_cast<std::int32_t>(std::find(logits.begin(), logits.end(), largest) -
                                          logits.begin());
    out.sampled_logprob = 0.0f;
  } else if (!cut) {
    out.token = draw_full(kernels, logits, inv, top, sampling_uniform(request), scratch);
    as_policy = scratch.penalized.empty();
    if (!as_policy) {
      out.sampled_logprob = row_logprob(row_logsumexp(gemm, logits, inv),
                                        logits[static_cast<std::size_t>(out.token)], inv);
    }
  } else {
    truncate(kernels, logits, inv, top, params, scratch);
    const double total = mass(scratch.candidates);
    double left = sampling_uniform(request) * total;
    Candidate drawn = scratch.candidates.back();
    for (const Candidate& c : scratch.candidates) {
      left -= c.weight;
      if (left < 0.0) {
        drawn = c;
        break;
      }
    }
    out.token = drawn.id;
    out.sampled_logprob = static_cast<float>(static_cast<double>(drawn.z) -
                                             static_cast<double>(top) - std::log(total));
  }
  restore(logits, scratch);

  const float logit = logits[static_cast<std::size_t>(out.token)];
  out.logprob = row_logprob(plain, logit, 1.0f);
  out.policy_logprob = row_logprob(policy, logit, inv);
  if (as_policy) out.sampled_logprob = out.policy_logprob;
  return out;
}

void head_sample(GemmContext& gemm, LayerContext& layer, std::span<SampleScratch> scratch,
                 std::span<SampledToken> out, ConstTensorView hidden, const Linear& head,
                 std::span<const SampleRequest> requests) {
  if (requests.empty() && out.empty()) return;
  require(hidden.dtype == DType::f32 && hidden.shape.rank() == 2 && head.weight != nullptr &&
              hidden.shape[1] == head.weight->cols(),
          "head_sample: hidden is {} {}, the head's weight has {} columns",
          dtype_name(hidden.dtype), hidden.shape.str(),
          head.weight == nullptr ? 0 : head.weight->cols());
  const std::int64_t width = hidden.shape[1];
  const std::int64_t vocab = head.weight->rows();

  // Requests by row, and where each row's begin.
  const std::vector<std::size_t> order = requests_by_row(requests, out.size(), hidden.shape[0]);
  std::vector<std::size_t> first;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i == 0 || requests[order[i - 1]].row != requests[order[i]].row) first.push_back(i);
  }
  first.push_back(order.size());

  const auto rows = static_cast<std::int64_t>(first.size()) - 1;
  for (std::int64_t begin = 0; begin < rows; begin += kHeadRows) {
    const std::int64_t count = std::min(kHeadRows, rows - begin);
    float* packed = gemm.scratch(GemmContext::Slot::hidden, count * width);
    for (std::int64_t r = 0; r < count; ++r) {
      const std::int64_t row = requests[order[first[static_cast<std::size_t>(begin + r)]]].row;
      std::copy_n(hidden.f32() + row * width, width, packed + r * width);
    }
    float* logits = gemm.scratch(GemmContext::Slot::logits, count * vocab);
    head_logits(gemm, {logits, DType::f32, {count, vocab}}, {packed, DType::f32, {count, width}},
                head);
    layer.pool.parallel_for(count, [&](std::int64_t r, int thread) {
      const std::span<float> row(logits + r * vocab, static_cast<std::size_t>(vocab));
      const auto at = static_cast<std::size_t>(begin + r);
      for (std::size_t i = first[at]; i < first[at + 1]; ++i) {
        out[order[i]] = sample_row(gemm, layer.kernels, row, requests[order[i]],
                                   scratch[static_cast<std::size_t>(thread)]);
      }
    });
  }
}

}  // namespace qgrpo::cpu
