#include "engine/step.h"

namespace qgrpo::engine {

std::span<const std::int32_t> Step::keep(std::span<const std::int32_t> values) {
  storage_.emplace_back(values.begin(), values.end());
  return storage_.back();
}

void Step::add_rows(const GroupState& group, std::int32_t place, const BlockTable& table,
                    std::span<const std::int32_t> rows) {
  const auto count = static_cast<std::int32_t>(rows.size());
  PagedSequence sequence;
  sequence.query_begin = static_cast<std::int32_t>(tokens.size());
  sequence.query_length = count;
  sequence.context_length = table.length();
  sequence.prompt_length = group.prompt_length();
  sequence.prompt_group = place;
  sequence.block_table = keep(table.blocks());
  sequences.push_back(sequence);

  tokens.insert(tokens.end(), rows.begin(), rows.end());
  for (std::int32_t p = table.length() - count; p < table.length(); ++p) positions.push_back(p);
  const std::int32_t adapter = group.request.adapter;
  if (!adapter_runs.empty() && adapter_runs.back().adapter == adapter) {
    adapter_runs.back().length += count;
  } else {
    adapter_runs.push_back({sequence.query_begin, count, adapter});
  }
}

void Step::add_head_row() {
  head_rows.push_back(static_cast<std::int32_t>(tokens.size()) - 1);
}

void Step::add_request(const GroupState& group, std::int32_t sample) {
  SampleRequest request = request_of(group, sample);
  request.row = static_cast<std::int32_t>(head_rows.size()) - 1;
  requests.push_back(request);
  top_logprobs.push_back(group.request.top_logprobs);
  targets.push_back({group.id, sample});
}

void Step::add_decode(const GroupState& group, std::int32_t place, std::int32_t sample) {
  const SequenceState& from = group.sequences[sample];
  DecodeSequence sequence;
  sequence.token = from.tokens.back();
  sequence.position = static_cast<std::int32_t>(from.tokens.size()) - 1;
  sequence.prompt_length = group.prompt_length();
  sequence.prompt_group = place;
  sequence.adapter = group.request.adapter;
  sequence.remaining = group.remaining(from);
  if (!group.request.ignore_eos) sequence.eos_ids = keep(group.request.eos_ids);
  sequence.block_table = keep(from.table.blocks());
  sequence.request = request_of(group, sample);
  decode.push_back(sequence);
  targets.push_back({group.id, sample});
}

// How the sample's next token is drawn.
SampleRequest Step::request_of(const GroupState& group, std::int32_t sample) {
  const GroupRequest& from = group.request;
  const std::vector<std::int32_t>& drawn = group.sequences[sample].tokens;
  SampleRequest request;
  request.params = from.sampling;
  request.seed = from.seed;
  request.step = from.step;
  request.prompt = from.prompt_key;
  request.sample = static_cast<std::uint32_t>(sample);
  request.position = static_cast<std::uint32_t>(drawn.size());
  if (from.sampling.repetition_penalty != 1.0f) request.seen = keep(drawn);
  return request;
}

}  // namespace qgrpo::engine
