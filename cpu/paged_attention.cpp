#include "cpu/paged_attention.h"

#include <algorithm>

#include "cpu/attention.h"
#include "cpu/attention_tile.h"
#include "model/ops/paged_attention.h"

namespace qgrpo::cpu {
namespace {

// A query token of the step.
struct Query {
  std::int32_t sequence;
  std::int32_t row;
  std::int64_t visible;  // keys that it sees, from position 0
};

// Queries [from, to) whose sequences share a prompt, one key-value head.
struct PagedTask {
  std::size_t from;
  std::size_t to;
  std::int64_t kv_head;
};

}  // namespace

void paged_attention(LayerContext& context, TensorView o, ConstTensorView q,
                     const KvCacheLayer& cache, std::int32_t block_size,
                     const AttentionShape& shape, std::span<const PagedSequence> sequences) {
  const std::int64_t rows = q.shape[0];
  check_attention(shape, rows, q, "q");
  check_attention(shape, rows, o, "o");
  const std::int64_t dim = shape.head_dim;
  const std::int64_t width = shape.kv_heads * dim;
  require(cache.k.shape[1] == block_size && cache.k.shape[2] == width,
          "paged attention: cache {}, expected [blocks, {}, {}]", cache.k.shape.str(), block_size,
          width);
  require_sequences(sequences, block_size, cache.k.shape[0], rows);

  // Tiles never cross a change of prompt.
  std::vector<Query> queries;
  std::vector<PagedTask> tasks;
  const auto most = static_cast<std::size_t>(tile_tokens(shape));
  for (std::size_t s = 0; s < sequences.size();) {
    const PagedSequence& first = sequences[s];
    const std::size_t begin = queries.size();
    do {
      const PagedSequence& sequence = sequences[s];
      for (std::int32_t i = 0; i < sequence.query_length; ++i) {
        queries.push_back({static_cast<std::int32_t>(s), sequence.query_begin + i,
                           std::int64_t{sequence.context_length} - sequence.query_length + i + 1});
      }
      ++s;
    } while (s < sequences.size() && first.prompt_group >= 0 &&
             sequences[s].prompt_group == first.prompt_group);
    for (std::size_t from = begin; from < queries.size(); from += most) {
      const std::size_t to = std::min(from + most, queries.size());
      for (std::int64_t g = 0; g < shape.kv_heads; ++g) tasks.push_back({from, to, g});
    }
  }

  const std::int64_t repeat = shape.heads / shape.kv_heads;
  context.pool.parallel_for(
      static_cast<std::int64_t>(tasks.size()), [&](std::int64_t t, int thread) {
        const PagedTask& task = tasks[static_cast<std::size_t>(t)];
        const std::span<const Query> own(queries.data() + task.from, task.to - task.from);
        const int count = static_cast<int>(own.size());
        AttentionTile tile(context.kernels, shape,
                           context.of_thread[static_cast<std::size_t>(thread)], count);
        const auto query = [&](const Query& one) {
          return (one.row * std::int64_t{shape.heads} + task.kv_head * repeat) * dim;
        };
        for (int i = 0; i < count; ++i) {
          tile.set_token(i, q.f32() + query(own[static_cast<std::size_t>(i)]));
        }
        // The keys at positions [start, end) of `holder`'s context, for the tile's tokens [from,
        // to).
        const auto part = [&](const Query& holder, int from, int to, std::int64_t start,
                              std::int64_t end) {
          const auto table = sequences[static_cast<std::size_t>(holder.sequence)].block_table;
          const auto slot = [&](std::int64_t j) {
            const std::int64_t at = start + j;
            const std::int64_t block = table[static_cast<std::size_t>(at / block_size)];
            return (block * block_size + at % block_size) * width + task.kv_head * dim;
          };
          tile.attend(
              from, to, end - start, [&](std::int64_t j) { return cache.k.f32() + slot(j); },
              [&](std::int64_t j) { return cache.v.f32() + slot(j); },
              [&](int i) { return own[static_cast<std::size_t>(i)].visible - start; });
        };
        // The prompt's keys are the same for all: taken from the sequence that has the most of
        // them.
        const std::int64_t prompt =
            sequences[static_cast<std::size_t>(own.front().sequence)].prompt_length;
        const Query& deepest =
            *std::max_element(own.begin(), own.end(),
                              [](const Query& a, const Query& b) { return a.visible < b.visible; });
        part(deepest, 0, count, 0, std::min(prompt, deepest.visible));
        // Each sequence's own keys behind the prompt.
        for (int from = 0; from < count;) {
          const Query& first = own[static_cast<std::size_t>(from)];
          int to = from;
          while (to < count && own[static_cast<std::size_t>(to)].sequence == first.sequence) ++to;
          const std::int64_t end = own[static_cast<std::size_t>(to - 1)].visible;
          if (end > prompt) part(first, from, to, prompt, end);
          from = to;
        }
        for (int i = 0; i < count; ++i) {
          tile.finish(i, o.f32() + query(own[static_cast<std::size_t>(i)]), nullptr);
        }
      });
}

}  // namespace qgrpo::cpu
