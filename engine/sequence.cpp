#include "engine/sequence.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "model/ops/error.h"

namespace qgrpo::engine {

void validate(const SamplingParams& p) {
  // Comparisons are written so that NaN fails them.
  require(p.temperature >= 0.0f && std::isfinite(p.temperature),
          "temperature {}: expected a finite value >= 0 (0 is greedy)", p.temperature);
  require(p.top_p > 0.0f && p.top_p <= 1.0f, "top_p {}: expected 0 < top_p <= 1 (1 is off)",
          p.top_p);
  require(p.top_k >= 0, "top_k {}: expected >= 0 (0 is off)", p.top_k);
  require(p.min_p >= 0.0f && p.min_p <= 1.0f, "min_p {}: expected 0 <= min_p <= 1 (0 is off)",
          p.min_p);
  require(p.repetition_penalty > 0.0f && std::isfinite(p.repetition_penalty),
          "repetition_penalty {}: expected a finite value > 0 (1 is off)", p.repetition_penalty);
}

void validate(const GroupRequest& r) {
  require(!r.prompt.empty(), "prompt: no tokens, expected at least one");
  for (std::size_t i = 0; i < r.prompt.size(); ++i) {
    require(r.prompt[i] >= 0, "prompt: token {} is {}, ids are not negative", i, r.prompt[i]);
  }
  require(r.samples > 0, "samples {}: expected at least one completion a prompt", r.samples);
  require(r.max_new_tokens > 0, "max_new_tokens {}: expected at least 1", r.max_new_tokens);
  require(r.prompt.size() + static_cast<std::size_t>(r.max_new_tokens) <=
              static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()),
          "a prompt of {} tokens and max_new_tokens {}: positions are numbered in 32 bits",
          r.prompt.size(), r.max_new_tokens);
  require(r.top_logprobs >= 0, "top_logprobs {}: expected at least 0", r.top_logprobs);
  require(r.adapter >= -1, "adapter {}: expected an adapter's index or -1 for none", r.adapter);
  validate(r.sampling);
}

std::int64_t blocks_of_group(std::int64_t prompt_length, std::int64_t max_new_tokens,
                             std::int64_t live, std::int64_t block_size) {
  if (live == 0) return 0;
  const std::int64_t shared = prompt_length / block_size;
  const std::int64_t cached = prompt_length + max_new_tokens - 1;
  const std::int64_t all = (cached + block_size - 1) / block_size;
  if (max_new_tokens == 1) return all;
  return shared + live * (all - shared);
}

std::int64_t most_blocks_of_group(std::int64_t max_prompt_length, std::int64_t max_new_tokens,
                                  std::int64_t live, std::int64_t block_size) {
  // One more whole block of prompt is one more block, so the maximum is among the last block_size
  // lengths.
  std::int64_t most = 0;
  for (std::int64_t p = std::max<std::int64_t>(1, max_prompt_length - block_size + 1);
       p <= max_prompt_length; ++p) {
    most = std::max(most, blocks_of_group(p, max_new_tokens, live, block_size));
  }
  return most;
}

std::string_view name(FinishReason reason) {
  switch (reason) {
    case FinishReason::none:
      return "";
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
  }
  return "";
}

FinishReason finish_reason(const GroupRequest& request, std::int32_t length, std::int32_t last) {
  if (!request.ignore_eos &&
      std::find(request.eos_ids.begin(), request.eos_ids.end(), last) != request.eos_ids.end()) {
    return FinishReason::stop;
  }
  return length >= request.max_new_tokens ? FinishReason::length : FinishReason::none;
}

std::int32_t GroupState::live() const {
  return static_cast<std::int32_t>(
      std::count_if(sequences.begin(), sequences.end(),
                    [](const SequenceState& sequence) { return sequence.live(); }));
}

}  // namespace qgrpo::engine
