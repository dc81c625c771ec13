#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/ops/sampling_types.h"

// What a token is drawn by.
namespace qgrpo {

// One token to draw. The order is that of transformers: repetition penalty, temperature, top-k,
// top-p, min-p. The draw depends on (seed, step, prompt, sample, position) and the row's logits
// alone.
struct SampleRequest {
  std::int32_t row = 0;  // hidden row
  SamplingParams params;
  std::uint64_t seed = 0;
  std::uint32_t step = 0;
  std::uint32_t prompt = 0;
  std::uint32_t sample = 0;
  std::uint32_t position = 0;
  std::span<const std::int32_t> seen;  // ids that the repetition penalty lowers; may repeat
};

// Throws Error where a parameter is out of range.
void require_sampling(const SamplingParams& params);
// Throws Error where an id of request.seen is outside the vocabulary.
void require_seen(const SampleRequest& request, std::int64_t vocab);

// The requests in the order of their hidden rows, equal ones as they come: the logits of a row are
// computed once. Throws Error unless there are as many results and all rows are in [0, rows).
std::vector<std::size_t> requests_by_row(std::span<const SampleRequest> requests,
                                         std::size_t results, std::int64_t rows);

// The request's uniform number in (0, 1), of 52 bits:
//   Philox key = seed, counter = (position, sample, prompt, 8 * step + RngStream::sampling)
// (the other streams put their own small number in the last word, so no draw meets one of theirs).
double sampling_uniform(const SampleRequest& request);

// Throws the Error that belongs to the status, unless it is kDrawn.
void require_drawn(SamplingStatus status, const SampleRequest& request);

}  // namespace qgrpo
