#include "model/ops/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "model/ops/diverged.h"
#include "model/ops/error.h"
#include "model/ops/rng.h"

namespace qgrpo {

void require_sampling(const SamplingParams& p) {
  require(std::isfinite(p.temperature) && p.temperature >= 0.0f,
          "sampling: temperature {} must be 0 (greedy) or above", p.temperature);
  require(p.top_p > 0.0f && p.top_p <= 1.0f, "sampling: top_p {} must be in (0, 1]", p.top_p);
  require(p.top_k >= 0, "sampling: top_k {} must be 0 (off) or above", p.top_k);
  require(p.min_p >= 0.0f && p.min_p <= 1.0f, "sampling: min_p {} must be in [0, 1]", p.min_p);
  require(std::isfinite(p.repetition_penalty) && p.repetition_penalty > 0.0f,
          "sampling: repetition_penalty {} must be above 0", p.repetition_penalty);
}

void require_seen(const SampleRequest& request, std::int64_t vocab) {
  for (const std::int32_t id : request.seen) {
    require(id >= 0 && id < vocab, "sampling: seen id {} is outside the vocabulary of {}", id,
            vocab);
  }
}

std::vector<std::size_t> requests_by_row(std::span<const SampleRequest> requests,
                                         std::size_t results, std::int64_t rows) {
  require(results == requests.size(), "head_sample: {} results for {} requests", results,
          requests.size());
  std::vector<std::size_t> order(requests.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return requests[a].row < requests[b].row; });
  for (const std::size_t i : order) {
    const std::int32_t row = requests[i].row;
    require(row >= 0 && row < rows, "head_sample: row {} of {}", row, rows);
  }
  return order;
}

double sampling_uniform(const SampleRequest& r) {
  const std::uint32_t stream = (r.step << 3) | static_cast<std::uint32_t>(RngStream::sampling);
  const auto words =
      philox({r.position, r.sample, r.prompt, stream},
             {static_cast<std::uint32_t>(r.seed), static_cast<std::uint32_t>(r.seed >> 32)});
  const std::uint64_t bits = (std::uint64_t{words[0]} << 20) | (words[1] >> 12);  // 52 bits
  return (static_cast<double>(bits) + 0.5) * 0x1p-52;
}

void require_drawn(SamplingStatus status, const SampleRequest& request) {
  switch (status) {
    case kDrawn:
      return;
    case kTemperatureOverflow:
      throw Diverged(
          fmt::format("sampling: the logits overflow at temperature {}: use 0 for greedy sampling",
                      request.params.temperature));
    case kPenaltyOverflow:
      fail("sampling: the logits overflow with repetition_penalty {} at temperature {}",
           request.params.repetition_penalty, request.params.temperature);
    case kLogitsNotFinite:
      throw Diverged(fmt::format(
          "sampling: the logits of prompt {}, sample {}, position {} hold NaN or infinity: the "
          "model's weights or its adapter have diverged",
          request.prompt, request.sample, request.position));
  }
}

}  // namespace qgrpo
