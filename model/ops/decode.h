#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/ops/attention.h"
#include "model/ops/batch.h"
#include "model/ops/kv_cache.h"
#include "model/ops/rope.h"
#include "model/ops/sampling.h"

// Decoding in windows of several tokens: the backend keeps each sequence's last token, length and
// stop flag, so that the host need not wait for a token before the next one is computed.
namespace qgrpo {

class Weight;
struct Linear;

// Rows that a window of `sequences` sequences has, padding included: few different numbers, so that
// few graphs are recorded.
constexpr std::int64_t decode_rows(std::int64_t sequences) {
  if (sequences > 128) return (sequences + 63) / 64 * 64;
  for (const std::int64_t rows : {1, 2, 4, 8, 16, 24, 32, 48, 64, 96}) {
    if (sequences <= rows) return rows;
  }
  return 128;
}

// A sequence as the host knows it when a window begins.
struct DecodeSequence {
  std::int32_t token = 0;          // its last token, whose key and value are not in the cache yet
  std::int32_t position = 0;       // that token's position = tokens in the cache
  std::int32_t prompt_length = 0;  // as PagedSequence
  std::int32_t prompt_group = -1;  // as PagedSequence
  std::int32_t adapter = -1;
  std::int32_t remaining = 1;                 // tokens it may still draw; at least 1
  std::span<const std::int32_t> eos_ids;      // drawing one of them ends it (the token counts)
  std::span<const std::int32_t> block_table;  // room for position + min(remaining, window) tokens
  // Of the window's first draw: `row` is ignored, `position` rises by one a draw, and each drawn
  // token joins `seen`.
  SampleRequest request;
};

// The window, in this order:
//
//   begin(sequences, window, block_size);
//   run(key, step), where step() computes one token of every row with this class's operators for
//     embedding, RoPE + cache, attention and sampling, and LayerOps' rmsnorm and linears for the
//     rest, all over rows() rows; it is called at most `window` times, or recorded and replayed;
//   finish() -> the tokens.
//
// Rows 0 .. sequences.size() - 1 are the sequences, in order (those of a prompt_group and of an
// adapter are neighbours); the rows up to rows() are padding whose values nobody reads. A row that
// has stopped draws nothing more in the window. Between begin() and finish() LayerOps uses its
// kernels for few rows, where a row's bits do not depend on how many rows there are: neighbours do
// not change a sequence's tokens.
class DecodeOps {
 public:
  virtual ~DecodeOps() = default;

  virtual void begin(std::span<const DecodeSequence> sequences, std::int32_t window,
                     std::int32_t block_size) = 0;
  virtual std::int64_t rows() const = 0;                 // decode_rows(sequences)
  virtual std::span<const AdapterRun> runs() const = 0;  // cover rows()

  // y = table[last token], (rows, H).
  virtual void embedding(TensorView y, const Weight& table) = 0;
  // RolloutOps::rope_kv_write at each row's position and slot; a stopped row writes nothing.
  virtual void rope_kv_write(const KvCacheLayer& cache, TensorView q, TensorView k,
                             ConstTensorView v, const RopeFrequencies& rope) = 0;
  // RolloutOps::paged_attention; a stopped row's o is any finite values.
  virtual void attention(TensorView o, ConstTensorView q, const KvCacheLayer& cache,
                         const AttentionShape& shape) = 0;
  // Draws a token for each row that has not stopped from the logits of its hidden row, (rows, H);
  // stops it at eos or when nothing remains; moves it on by one position.
  virtual void sample(ConstTensorView hidden, const Linear& head) = 0;

  // Computes the window. `key` names the step: the same key, rows() and runs() mean the same
  // operators on the same memory, so that a recorded graph can be replayed.
  virtual void run(std::uint64_t key, const std::function<void()>& step) = 0;
  // Waits, and returns the tokens drawn by each sequence, in order: at least one.
  virtual std::vector<std::vector<SampledToken>> finish() = 0;
};

}  // namespace qgrpo
