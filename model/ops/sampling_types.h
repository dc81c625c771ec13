#pragma once

#include <cstdint>

// What a token is drawn by, and what is known of it afterwards: also for device code.
namespace qgrpo {

struct SamplingParams {
  float temperature = 1.0f;         // 0 = greedy (the lowest id among equal logits)
  float top_p = 1.0f;               // 1 = off
  std::int32_t top_k = 0;           // 0 = off
  float min_p = 0.0f;               // 0 = off
  float repetition_penalty = 1.0f;  // 1 = off
};

// Why a row could not be drawn.
enum SamplingStatus : std::int32_t {
  kDrawn = 0,
  kLogitsNotFinite = 1,
  kTemperatureOverflow = 2,  // logits / temperature
  kPenaltyOverflow = 3       // after the repetition penalty
};

struct SampledToken {
  std::int32_t token = 0;
  float logprob = 0.0f;  // log softmax(logits)[token]: temperature 1, what `generate` reports
  float policy_logprob = 0.0f;  // log softmax(logits / temperature)[token] (temperature 0: as 1):
                                // what the objective uses
  float sampled_logprob =
      0.0f;  // under the distribution really sampled, after penalties and truncation
};

}  // namespace qgrpo
