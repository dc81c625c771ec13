#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/ops/batch.h"
#include "model/ops/ops.h"
#include "model/training_pass.h"
#include "train/data/group.h"
#include "train/data/per_token.h"

// How the groups of a step are cut into what a training pass computes at once.
namespace qgrpo::train {

// Completions [begin, end) of a group, computed behind one copy of its prompt.
struct Part {
  std::size_t group = 0;
  std::size_t begin = 0;
  std::size_t end = 0;
  std::int64_t tokens = 0;
};

// Cuts the groups into parts and these into micro-batches of at most `capacity` tokens and head
// rows, all in order. Throws Error when a prompt and one completion do not fit.
std::vector<std::vector<Part>> make_micro_batches(std::span<const Group> groups,
                                                  const model::PassCapacity& capacity);

// A micro-batch, packed: the tokens, the rows that predict one, and which completion's token each
// entry is.
struct Packed {
  Batch batch;
  std::vector<std::int32_t> rows;   // of the batch, rising
  std::vector<HeadEntry> entries;   // sorted by row (an index into rows)
  std::vector<TokenPlace> sources;  // one an entry
};

// The prompt of each part once, then its completions as children of that segment.
Packed pack(std::span<const Group> groups, std::span<const Part> parts, std::int32_t adapter);

}  // namespace qgrpo::train
