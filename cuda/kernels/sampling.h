#pragma once

#include "cuda/kernels/types.h"
#include "model/ops/sampling_types.h"

namespace qgrpo::cuda::kernels {

// Most ids that end a sequence.
inline constexpr int kMaxEosIds = 16;

// How a row's tokens are drawn: constant over a window.
struct SamplingRow {
  SamplingParams params;
  std::uint32_t step = 0;
  std::uint64_t seed = 0;
  std::uint32_t prompt = 0;
  std::uint32_t sample = 0;
  std::uint32_t position = 0;  // Philox's, of the window's first draw; rises by one a draw
  std::int32_t logits_row = 0;
  std::int32_t eos_count = 0;
  std::int32_t eos[kMaxEosIds] = {};
};

// The state of S rows on the device, which a draw reads and moves on. All arrays are (S) unless
// stated; a row with active = 0 is left alone.
struct DecodeSampling {
  const SamplingRow* row = nullptr;
  std::int32_t* active = nullptr;     // 1 = draws; = 0 when it stops
  std::int32_t* remaining = nullptr;  // tokens it may still draw; -= 1
  std::int32_t* count = nullptr;      // drawn in this window: where the result goes; += 1
  std::int32_t* status = nullptr;     // SamplingStatus; = only where it is not kDrawn
  SampledToken* results = nullptr;    // (S, window)
  std::int32_t window = 1;            // a row never draws more
  std::int32_t* token = nullptr;      // the last token, =; null: not wanted
  std::int32_t* position = nullptr;   // its position, += 1; null: not wanted
  // (S, seen_words): bit i % 32 of word i / 32 is set when the repetition penalty lowers id i; the
  // drawn id joins. Null: no row has a penalty.
  std::uint32_t* seen = nullptr;
  std::int64_t seen_words = 0;
};

// A part of a row: what the first of the two kernels leaves to the second.
struct SamplingPart {
  float max = 0.0f;               // of the logits
  float sum_plain = 0.0f;         // of exp(x - max)
  float sum_policy = 0.0f;        // of exp(z - max z), z = x / temperature
  float penalized_max = 0.0f;     // of the logits after the repetition penalty
  float penalized_sum = 0.0f;     // of exp(z - its max z) after it
  std::int32_t penalized_id = 0;  // the lowest id that has penalized_max
  std::int32_t problem = 0;       // bits of sampling.cu
  std::int32_t unused = 0;
};
inline constexpr int kSamplingPart = 2048;  // logits a part

// Draws a token for each active row from its logits, logits (rows, vocab) f32, as cpu/sampling.h
// says. parts: scratch, (S, ceil(vocab / kSamplingPart)). Two launches, no host arrays: can be
// captured into a graph.
cudaError_t sample_rows(cudaStream_t stream, const DecodeSampling& state, SamplingPart* parts,
                        const float* logits, std::int64_t rows, std::int64_t vocab);

}  // namespace qgrpo::cuda::kernels
