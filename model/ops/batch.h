#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace qgrpo {

// A run of tokens of one sequence in a packed batch. The G completions of a prompt are G segments
// whose parent is the ONE prompt segment: they attend to all of the parent's tokens and, causally,
// to their own.
struct Segment {
  std::int32_t begin = 0;     // first token, index into the packed batch
  std::int32_t length = 0;    // tokens
  std::int32_t position = 0;  // position of the first token (the parent's end for a child)
  std::int32_t parent =
      -1;  // index of the parent segment, which precedes this one and has no parent itself
  std::int32_t adapter = -1;  // index of the LoRA adapter, -1 = base model only

  std::int32_t end() const { return begin + length; }
};

// T tokens packed without padding; the segments cover 0..T in order without gaps.
struct Batch {
  std::vector<std::int32_t> tokens;  // (T)
  std::vector<Segment> segments;

  std::int64_t size() const { return static_cast<std::int64_t>(tokens.size()); }

  // Appends a segment and returns its index. A child starts at its parent's end.
  std::int32_t add(std::span<const std::int32_t> ids, std::int32_t adapter,
                   std::int32_t parent = -1) {
    Segment s;
    s.begin = static_cast<std::int32_t>(tokens.size());
    s.length = static_cast<std::int32_t>(ids.size());
    s.adapter = adapter;
    s.parent = parent;
    if (parent >= 0) {
      const Segment& p = segments[static_cast<std::size_t>(parent)];
      s.position = p.position + p.length;
    }
    tokens.insert(tokens.end(), ids.begin(), ids.end());
    segments.push_back(s);
    return static_cast<std::int32_t>(segments.size()) - 1;
  }
};

// Neighbouring tokens that share an adapter: what the linear operators loop over.
struct AdapterRun {
  std::int32_t begin = 0;
  std::int32_t length = 0;
  std::int32_t adapter = -1;
};

// The maximal runs of equal adapter that cover rows 0..T in order.
inline std::vector<AdapterRun> adapter_runs(std::span<const Segment> segments) {
  std::vector<AdapterRun> runs;
  for (const Segment& s : segments) {
    if (s.length == 0) continue;
    if (!runs.empty() && runs.back().adapter == s.adapter) {
      runs.back().length += s.length;
    } else {
      runs.push_back({s.begin, s.length, s.adapter});
    }
  }
  return runs;
}

// One sequence's part in a step of the rollout: `query_length` new tokens at the end of a context
// of `context_length` tokens whose keys and values lie in cache blocks. Token i of the sequence is
// at slot block_table[i / block_size] * block_size + i % block_size.
struct PagedSequence {
  std::int32_t query_begin = 0;     // first row of this sequence in the step's packed rows
  std::int32_t query_length = 0;    // its rows: 1 when decoding, more in a prefill
  std::int32_t context_length = 0;  // keys after this step's are written
  std::int32_t prompt_length = 0;   // key blocks of the softmax start at 0 and again here
  std::int32_t prompt_group =
      -1;  // equal for neighbours whose prompt lies in the same blocks; -1 = not shared
  std::span<const std::int32_t> block_table;
};

}  // namespace qgrpo
