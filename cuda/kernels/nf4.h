#pragma once

#include "cuda/kernels/types.h"

namespace qgrpo::cuda::kernels {

// A matrix (rows, cols) in NF4 with double quantization, as model/ops/nf4.h describes it, in device
// memory: the file's own bytes, so a block of 64 can cross rows.
struct Nf4View {
  const uint4* packed = nullptr;  // 32 indices each, the first of a byte in its high half; padded
  const std::uint8_t* absmax = nullptr;  // one a block of 64
  const float* nested = nullptr;         // one per 256 of absmax
  const float* map = nullptr;            // (256) the signed dynamic map
  float offset = 0.0f;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
};

// out (rows, cols) = bf16(code * absmax'), the one value that a quantized weight has on the device.
cudaError_t nf4_dequantize(cudaStream_t stream, bf16* out, const Nf4View& weight);

// Where a matrix that is quantized goes.
struct Nf4Target {
  std::uint8_t* packed = nullptr;
  float* absmax = nullptr;            // one a block of 64
  unsigned long long* bad = nullptr;  // becomes the lowest index of a value that is not finite
};

// Elements [first, first + count) of the row-major matrix, which `from` holds, to their indices and
// absmax: the bytes of model/ops/nf4.h. `first` is a multiple of 64; `count` too, but for the
// matrix's end.
cudaError_t nf4_quantize(cudaStream_t stream, const Nf4Target& to, const float* from,
                         std::int64_t first, std::int64_t count);
cudaError_t nf4_quantize(cudaStream_t stream, const Nf4Target& to, const bf16* from,
                         std::int64_t first, std::int64_t count);
// From the bits of f16.
cudaError_t nf4_quantize_f16(cudaStream_t stream, const Nf4Target& to, const std::uint16_t* from,
                             std::int64_t first, std::int64_t count);

// The second level: codes (blocks) and nested (one per 256) of absmax - offset; map (256) the
// signed dynamic map.
cudaError_t nf4_quantize_absmax(cudaStream_t stream, std::uint8_t* codes, float* nested,
                                const float* absmax, const float* map, float offset,
                                std::int64_t blocks);

}  // namespace qgrpo::cuda::kernels
