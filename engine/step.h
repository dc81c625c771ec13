#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/block_manager.h"
#include "engine/sequence.h"
#include "model/ops/batch.h"
#include "model/ops/decode.h"
#include "model/ops/ops.h"

namespace qgrpo::engine {

// What to run next: T packed rows (tokens), of which S are sampled from. The decode rows of each
// group come first, a group's samples side by side, then chunks of prompts. It owns all that its
// spans refer to, so it stays valid whatever happens to its groups. The order of work:
//   1. copy `copies` (whole cache blocks, all layers),
//   2. forward the rows; each layer writes keys and values to `slots`, then attends,
//   3. take the hidden rows `head_rows`, draw one token for each of `requests`,
//   4. Scheduler::commit.
// Or a decode window (window > 0): up to `window` tokens of every running sequence, drawn without
// the host in between (model/ops/decode.h). Then only `copies`, `decode` and `targets` are filled,
// and Scheduler::commit_window takes the tokens.
struct Step {
  struct Target {
    GroupId group = 0;
    std::int32_t sample = 0;
  };

  Step() = default;
  Step(Step&&) = default;
  Step& operator=(Step&&) = default;
  Step(const Step&) = delete;  // spans would refer to the original
  Step& operator=(const Step&) = delete;

  bool empty() const { return tokens.empty() && decode.empty(); }  // no work is left

  std::uint64_t number = 0;             // counts the steps of a scheduler, from 1
  std::vector<std::int32_t> tokens;     // (T)
  std::vector<std::int32_t> positions;  // (T)
  std::vector<std::int32_t> slots;      // (T), all different
  // Cover rows 0..T in order. prompt_length is the whole prompt's, also in a chunk that ends before
  // it. prompt_group is equal for the samples of a group, which are neighbours, and different
  // between groups. Their prompts have the same keys and values and share all full blocks; a
  // partial last block each sample copies when it writes, so there the block numbers differ.
  std::vector<PagedSequence> sequences;
  std::vector<AdapterRun> adapter_runs;  // cover rows 0..T
  std::vector<BlockCopy> copies;         // no block is copied to twice, or both from and to
  std::vector<std::int32_t> head_rows;   // (S), rising
  // Sorted by row, which is an index into head_rows. A prompt's last row has a request a sample.
  // `seen` is prompt + completion, empty where the repetition penalty is off.
  std::vector<SampleRequest> requests;
  std::vector<std::int32_t> top_logprobs;  // (requests) GroupRequest::top_logprobs
  std::vector<Target> targets;  // whose token each request, or sequence of `decode`, draws

  std::int32_t window = 0;
  // A group's samples side by side, groups with the same adapter too. Block tables have room for
  // the whole window.
  std::vector<DecodeSequence> decode;

  // How a scheduler fills it. `place` is the group's among the running ones, its prompt_group.
  //
  // Rows of tokens, the last ones of `table`, as one PagedSequence. Their slots are there already.
  void add_rows(const GroupState& group, std::int32_t place, const BlockTable& table,
                std::span<const std::int32_t> rows);
  // The last row's hidden state goes to the head, for the requests that follow.
  void add_head_row();
  void add_request(const GroupState& group, std::int32_t sample);
  // The sample's part of a decode window.
  void add_decode(const GroupState& group, std::int32_t place, std::int32_t sample);

 private:
  SampleRequest request_of(const GroupState& group, std::int32_t sample);
  std::span<const std::int32_t> keep(std::span<const std::int32_t> values);

  std::vector<std::vector<std::int32_t>> storage_;  // of the spans; growth moves no inner buffer
};

}  // namespace qgrpo::engine
