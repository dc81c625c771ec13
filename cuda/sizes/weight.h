#pragma once

#include "cuda/sizes/slots.h"
#include "model/ops/nf4.h"

namespace qgrpo::cuda {

// Where the parts of an nf4 matrix lie in its memory, in bytes from its beginning.
struct Nf4Layout {
  std::size_t absmax = 0;  // behind the indices
  std::size_t nested = 0;
  std::size_t map = 0;
  std::size_t bytes = 0;

  Nf4Layout(std::int64_t rows, std::int64_t cols) {
    const auto elements = static_cast<std::size_t>(rows * cols);
    const std::size_t blocks = (elements + kNf4Block - 1) / kNf4Block;
    absmax = aligned_bytes((elements + 1) / 2);
    nested = absmax + aligned_bytes(blocks);
    map = nested + aligned_bytes((blocks + kNf4NestedBlock - 1) / kNf4NestedBlock * sizeof(float));
    bytes = map + aligned_bytes(256 * sizeof(float));
  }
};

}  // namespace qgrpo::cuda
