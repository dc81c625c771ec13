#include "model/ops/paged_attention.h"

#include "model/ops/error.h"

namespace qgrpo {

void require_sequences(std::span<const PagedSequence> sequences, std::int32_t block_size,
                       std::int64_t blocks, std::int64_t rows) {
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const PagedSequence& s = sequences[i];
    require(s.query_length >= 1 && s.context_length >= s.query_length && s.prompt_length >= 0 &&
                s.query_begin >= 0 && std::int64_t{s.query_begin} + s.query_length <= rows,
            "paged attention: sequence {} has {} query rows from row {} of {}, context {}, prompt "
            "{}",
            i, s.query_length, s.query_begin, rows, s.context_length, s.prompt_length);
    const auto needed = static_cast<std::size_t>((s.context_length + block_size - 1) / block_size);
    require(s.block_table.size() >= needed,
            "paged attention: sequence {} has {} blocks of {} for a context of {}", i,
            s.block_table.size(), block_size, s.context_length);
    for (std::size_t b = 0; b < needed; ++b) {
      require(s.block_table[b] >= 0 && s.block_table[b] < blocks,
              "paged attention: sequence {} names block {}, the cache has {}", i, s.block_table[b],
              blocks);
    }
    const bool neighbour =
        i > 0 && s.prompt_group >= 0 && sequences[i - 1].prompt_group == s.prompt_group;
    require(!neighbour || sequences[i - 1].prompt_length == s.prompt_length,
            "paged attention: sequence {} of prompt group {} has a prompt of {}, its neighbour of "
            "{}",
            i, s.prompt_group, s.prompt_length, sequences[i - 1].prompt_length);
  }
}

}  // namespace qgrpo
