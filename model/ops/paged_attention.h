#pragma once

#include <cstdint>
#include <span>

#include "model/ops/batch.h"

// What RolloutOps' attention over the cache takes: PagedSequence (model/ops/batch.h).
namespace qgrpo {

// Throws Error unless each sequence's rows are among `rows`, its table names blocks of the cache's
// `blocks` and has room for its context, and neighbours of a prompt group have equal prompts.
void require_sequences(std::span<const PagedSequence> sequences, std::int32_t block_size,
                       std::int64_t blocks, std::int64_t rows);

}  // namespace qgrpo
