#pragma once

#include <cstdint>
#include <span>

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

}  // namespace qgrpo
