#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/block_manager.h"
#include "engine/top_logprobs.h"
#include "model/ops/ops.h"

namespace qgrpo::engine {

// One prompt and what is wanted of it: `samples` completions that share the prompt's cache blocks.
struct GroupRequest {
  std::vector<std::int32_t> prompt;  // ids, at least one
  std::int32_t samples = 1;
  std::int32_t max_new_tokens = 1;
  SamplingParams sampling;
  std::vector<std::int32_t> eos_ids;  // each ends a completion, of which it is the last token
  bool ignore_eos = false;            // eos ids are tokens like any other
  std::int32_t adapter = -1;          // LoRA adapter of every row, -1 = base model only
  // Not 0: groups with the same number take each other's cache blocks for what their prompts have in
  // common. It must say of which weights keys and values are: the adapter's, whatever its index.
  std::uint64_t prefix_key = 0;
  std::int32_t top_logprobs = 0;  // the likeliest tokens that each TokenEvent is to name
  // Keys of the random draws, see SampleRequest. Sample i of the group draws with sample = i and
  // position = the drawn token's index in prompt + completion.
  std::uint64_t seed = 0;
  std::uint32_t step = 0;
  std::uint32_t prompt_key = 0;
};

// Throws Error naming the field: no prompt, a negative id, samples or max_new_tokens below 1,
// sampling parameters out of range, or prompt + completion too long for 32-bit positions.
void validate(const GroupRequest& request);

// Throws Error unless temperature >= 0 and finite, 0 < top_p <= 1, top_k >= 0, 0 <= min_p <= 1,
// repetition_penalty > 0 and finite.
void validate(const SamplingParams& params);

// The most cache blocks that `live` unfinished samples of a group ever hold at once. The keys of a
// completion's last token are never needed, so a sample's cache holds C = P + M - 1 tokens at most:
//   floor(P / B) + live * (ceil(C / B) - floor(P / B))    M > 1
//   ceil(P / B)                                           M = 1: the prompt alone
// P = prompt_length, M = max_new_tokens, B = block_size. The prompt's full blocks are shared; of
// its partial block each sample but the last gets a copy when it writes. Host arithmetic for the
// memory plan and for admission, so the two cannot disagree.
std::int64_t blocks_of_group(std::int64_t prompt_length, std::int64_t max_new_tokens,
                             std::int64_t live, std::int64_t block_size);

// The most that blocks_of_group can be for any prompt of up to `max_prompt_length` tokens. It is
// not the value of the longest prompt: one that fills its last block is cheaper than a shorter one
// whose last block each sample copies.
std::int64_t most_blocks_of_group(std::int64_t max_prompt_length, std::int64_t max_new_tokens,
                                  std::int64_t live, std::int64_t block_size);

enum class FinishReason : std::uint8_t {
  none,    // still running
  stop,    // an eos id, or a stop string in the text
  length,  // max_new_tokens
};

// "", "stop", "length".
std::string_view name(FinishReason reason);

// Why a completion of `length` tokens that ends in `last` is finished; eos goes before length.
FinishReason finish_reason(const GroupRequest& request, std::int32_t length, std::int32_t last);

using GroupId = std::uint64_t;

// One token that a step has added to a completion.
struct TokenEvent {
  GroupId group = 0;
  std::int32_t sample = 0;
  std::int32_t index = 0;  // of the token in the completion, from 0
  SampledToken sampled;
  FinishReason finish = FinishReason::none;  // not none: the completion's last token
  std::vector<TokenLogprob> top = {};        // GroupRequest::top_logprobs of them
};

// One sample of a group, as the scheduler keeps it.
struct SequenceState {
  std::vector<std::int32_t> tokens;  // prompt + completion
  BlockTable table;                  // empty until the group's prompt is prefilled
  FinishReason finish = FinishReason::none;

  bool live() const { return finish == FinishReason::none; }
};

// A group, waiting or running, as the scheduler keeps it.
struct GroupState {
  GroupId id = 0;
  GroupRequest request;
  BlockTable prompt_table;  // the prompt's blocks during the prefill; then the samples hold them
  bool prefilled = false;
  std::vector<SequenceState> sequences;  // (samples)

  std::int32_t prompt_length() const { return static_cast<std::int32_t>(request.prompt.size()); }
  std::int32_t live() const;  // samples not finished
  // Tokens that a running sample may still draw.
  std::int32_t remaining(const SequenceState& sequence) const {
    return prompt_length() + request.max_new_tokens -
           static_cast<std::int32_t>(sequence.tokens.size());
  }
};

}  // namespace qgrpo::engine
