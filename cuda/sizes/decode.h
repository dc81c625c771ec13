#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

// What a decode window keeps on the device, and the same again in pinned host memory. No CUDA
// header: the memory plan asks these functions on a machine without a toolkit.
namespace qgrpo::cuda {

inline constexpr std::size_t kSamplingRowBytes = 120;  // sizeof(kernels::SamplingRow)
inline constexpr std::size_t kSampledTokenBytes = 16;  // sizeof(SampledToken)

// Contexts, window lengths and (model/ops/decode.h) rows are rounded up to few numbers, each of
// which has graphs of its own: contexts to 256, 512, 768, 1024, 1536, 2048, 3072, ...
constexpr std::int64_t decode_context(std::int64_t context) {
  std::int64_t rounded = 256;
  while (rounded < context) {
    if (rounded >= 512 && rounded + rounded / 2 >= context) return rounded + rounded / 2;
    rounded *= 2;
  }
  return rounded;
}
constexpr std::int64_t decode_window(std::int64_t window) {
  return (window + 15) / 16 * 16;
}

// Where the arrays of a window lie in its state, in bytes from its beginning. Uploaded are
// [0, results), downloaded [count, bytes). S rows of W tokens whose block tables have B blocks.
struct DecodeLayout {
  std::size_t sampling = 0;       // (S) SamplingRow
  std::size_t token = 0;          // (S) int32, like the next ones
  std::size_t position = 0;       //
  std::size_t prompt_length = 0;  //
  std::size_t group_first = 0;    //
  std::size_t group_size = 0;     //
  std::size_t active = 0;         //
  std::size_t remaining = 0;      //
  std::size_t block_tables = 0;   // (S, B) int32
  std::size_t count = 0;          // (S) int32
  std::size_t status = 0;         // (S) int32
  std::size_t results = 0;        // (S, W) SampledToken
  std::size_t bytes = 0;
};
constexpr DecodeLayout decode_layout(std::int64_t rows, std::int64_t window, std::int64_t blocks) {
  DecodeLayout layout;
  std::size_t end = 0;
  const auto take = [&](std::size_t& offset, std::int64_t elements, std::size_t size) {
    offset = end;
    end += (static_cast<std::size_t>(elements) * size + 15) / 16 * 16;
  };
  take(layout.sampling, rows, kSamplingRowBytes);
  for (std::size_t* offset :
       {&layout.token, &layout.position, &layout.prompt_length, &layout.group_first,
        &layout.group_size, &layout.active, &layout.remaining}) {
    take(*offset, rows, sizeof(std::int32_t));
  }
  take(layout.block_tables, rows * blocks, sizeof(std::int32_t));
  take(layout.count, rows, sizeof(std::int32_t));
  take(layout.status, rows, sizeof(std::int32_t));
  take(layout.results, rows * window, kSampledTokenBytes);
  layout.bytes = end;
  return layout;
}

// Bytes of Slot::decode_state, and of its pinned image: `rows` are decode_rows(sequences).
constexpr std::size_t decode_state_bytes(std::int64_t rows, std::int64_t window,
                                         std::int64_t max_context, std::int64_t block_size) {
  const std::int64_t blocks = (decode_context(max_context) + block_size - 1) / block_size;
  return decode_layout(rows, decode_window(window), blocks).bytes;
}

// Bytes of Slot::decode_seen, and of its pinned image: a bit for each id of the vocabulary. Taken
// only when a sequence has a repetition penalty.
constexpr std::size_t decode_seen_bytes(std::int64_t rows, std::int64_t vocab) {
  return static_cast<std::size_t>(rows * ((vocab + 31) / 32)) * sizeof(std::uint32_t);
}

// Rows whose logits are computed at once, and the bytes of Slot::logits for them.
inline constexpr std::int64_t kDecodeLogitsRows = 64;
constexpr std::size_t decode_logits_bytes(std::int64_t rows, std::int64_t vocab) {
  return static_cast<std::size_t>(std::min(rows, kDecodeLogitsRows) * vocab) * sizeof(float);
}

}  // namespace qgrpo::cuda
