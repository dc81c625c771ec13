#pragma once

#include <span>
#include <vector>

#include "cuda/kernels/sampling.h"
#include "cuda/sizes/head.h"
#include "cuda/weight.h"

// The sampler: tokens are drawn on the device, by the rules of cpu/sampling.h and at the uniform
// numbers of model/ops/sampling.h. Sums of weights are integers, 2^-44ths of the likeliest token's weight, so they
// are exact in any order, and a row's token depends on its logits alone. From equal logits the
// token is the CPU's unless its uniform number falls within float32 rounding of a boundary between
// two tokens.
namespace qgrpo::cuda {

using kernels::DecodeSampling;
using kernels::SamplingRow;

// The device's form of a request (logits_row = request.row). Error: a parameter out of range, or
// more than kMaxEosIds ids.
SamplingRow sampling_row(const SampleRequest& request, std::span<const std::int32_t> eos_ids = {});

// Words of a row of DecodeSampling::seen.
using head_sizes::seen_words;
// Sets the bits of request.seen in a zeroed row. Error: an id outside the vocabulary.
void mark_seen(std::span<std::uint32_t> words, const SampleRequest& request, std::int64_t vocab);

// Draws a token for each of `rows` rows that is active and moves its state on, all on the device:
// can be captured into a graph. logits: f32, SamplingRow::logits_row names a row's.
void decode_sample(Device& device, const float* logits, std::int64_t rows, std::int64_t vocab,
                   const DecodeSampling& state);

// Throws the Error that belongs to a row's status, unless it is kDrawn; `drawn` = tokens drawn in
// the window before.
void require_drawn(std::int32_t status, const SamplingRow& row, std::int32_t drawn);

// RolloutOps::head_sample: the logits of each named hidden row are computed once,
// kSampleChunkRows at a time, by few_row_logits (cuda/linear.h).
class HeadSampler {
 public:
  void sample(Device& device, std::span<SampledToken> out, ConstTensorView hidden,
              const Linear& head, std::span<const SampleRequest> requests);

 private:
  DeviceArray<std::int32_t> gather_{Slot::sampling_gather};
};

}  // namespace qgrpo::cuda
