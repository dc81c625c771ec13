#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

// What the head and the sampler take of the device's memory. No CUDA header: the memory plan asks
// these functions on a machine without a toolkit. `rows` and `entries` are those of the largest
// call, `hidden` and `vocab` the head's (H, V).
namespace qgrpo::cuda {

// Distinct rows whose logits exist at once: of head_logprob and head_objective, and of head_sample
// and a decode step's sampling.
inline constexpr std::int64_t kHeadChunkRows = 1024;
inline constexpr std::int64_t kSampleChunkRows = 64;
// Requests whose state is on the device at once.
inline constexpr std::int64_t kSampleChunkRequests = 256;

namespace head_sizes {

constexpr std::size_t product(std::int64_t a, std::int64_t b, std::size_t bytes) {
  return static_cast<std::size_t>(a * b) * bytes;
}

// ---- head_logprob, head_objective

// Slot::hidden: the chunk's rows, bf16.
constexpr std::size_t gathered_bytes(std::int64_t rows, std::int64_t hidden) {
  return product(std::min(rows, kHeadChunkRows), hidden, 2);
}
// Slot::logits: float32; the gradient takes their place.
constexpr std::size_t logits_bytes(std::int64_t rows, std::int64_t vocab) {
  return product(std::min(rows, kHeadChunkRows), vocab, 4);
}
// Slot::head_gradient: of the chunk's rows, bf16; head_objective only.
constexpr std::size_t gradient_bytes(std::int64_t rows, std::int64_t hidden) {
  return product(std::min(rows, kHeadChunkRows), hidden, 2);
}
// Slot::head_lists: int32: the chunk's rows, where each one's entries begin, targets.
constexpr std::size_t lists_bytes(std::int64_t rows, std::int64_t entries) {
  return product(2 * std::min(rows, kHeadChunkRows) + 1 + entries, 1, 4);
}
// Slot::head_terms: ObjectiveEntry; head_objective only.
constexpr std::size_t terms_bytes(std::int64_t entries) {
  return product(entries, 4, 4);
}
// Slot::results: HeadResult.
constexpr std::size_t results_bytes(std::int64_t entries) {
  return product(entries, 2, 4);
}
// Slot::head_tokens: TokenObjective<float>; head_objective only.
constexpr std::size_t tokens_bytes(std::int64_t entries) {
  return product(entries, 5, 4);
}
// Slot::head_targets: two float32 an entry; head_objective only.
constexpr std::size_t targets_bytes(std::int64_t entries) {
  return product(entries, 2, 4);
}

// ---- sampling

// Slot::logits of head_sample, float32; decode steps take min(rows, kSampleChunkRows) as well.
constexpr std::size_t sample_logits_bytes(std::int64_t rows, std::int64_t vocab) {
  return product(std::min(rows, kSampleChunkRows), vocab, 4);
}
// Slot::hidden of head_sample: its rows, bf16.
constexpr std::size_t sample_gathered_bytes(std::int64_t rows, std::int64_t hidden) {
  return product(std::min(rows, kSampleChunkRows), hidden, 2);
}
// Slot::sampling_gather of head_sample: which rows, int32.
constexpr std::size_t sample_gather_bytes(std::int64_t rows) {
  return product(std::min(rows, kSampleChunkRows), 1, 4);
}
// Slot::sampling_parts: statistics of parts of 2048 logits, 32 bytes each. `requests`: drawn at
// once, at most kSampleChunkRequests in head_sample, the rows of a decode step.
constexpr std::size_t sampling_parts_bytes(std::int64_t requests, std::int64_t vocab) {
  return product(requests, (vocab + 2047) / 2048, 32);
}
// Slot::sampling_state of head_sample: SamplingRow, 4 words of state and a SampledToken each.
constexpr std::size_t sampling_state_bytes(std::int64_t requests) {
  return product(std::min(requests, kSampleChunkRequests), 120 + 16 + 16, 1);
}
// Words of a row of DecodeSampling::seen.
constexpr std::int64_t seen_words(std::int64_t vocab) {
  return (vocab + 31) / 32;
}
// Slot::sampling_seen of head_sample, taken where a repetition penalty is.
constexpr std::size_t sampling_seen_bytes(std::int64_t requests, std::int64_t vocab) {
  return product(std::min(requests, kSampleChunkRequests), seen_words(vocab), 4);
}

}  // namespace head_sizes
}  // namespace qgrpo::cuda
