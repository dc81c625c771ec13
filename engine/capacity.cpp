#include "engine/capacity.h"

#include <algorithm>

#include "model/ops/error.h"

namespace qgrpo::engine {

std::int64_t GeneratorLoad::num_blocks() const {
  const std::int64_t groups = std::max<std::int64_t>(1, sequences / samples);
  return std::max(group_blocks, std::min(groups * group_blocks, affordable_blocks));
}

GeneratorCapacity generator_capacity(const BackendSizes& backend, const GeneratorLoad& load) {
  const std::int64_t blocks = load.num_blocks();
  require(blocks <= kMostBlocks, "generator: {} KV blocks, but the cache numbers {} at most",
          blocks, kMostBlocks);
  GeneratorCapacity capacity;
  capacity.num_blocks = static_cast<std::int32_t>(blocks);
  capacity.max_sequences = static_cast<std::int32_t>(load.sequences);
  capacity.max_tokens =
      static_cast<std::int32_t>(std::max(load.sequences, backend.preferences().prefill_rows));
  capacity.window = load.window;
  return capacity;
}

void include_rollout(WorkspaceShape& shape, const GeneratorCapacity& capacity,
                     std::int64_t max_context) {
  shape.tokens = std::max<std::int64_t>(shape.tokens, capacity.max_tokens);
  shape.head_rows = std::max<std::int64_t>(shape.head_rows, capacity.max_sequences);
  shape.decode_rows = capacity.max_sequences;
  shape.decode_window = capacity.window;
  shape.max_context = max_context;
  shape.block_size = capacity.block_size;
}

}  // namespace qgrpo::engine
