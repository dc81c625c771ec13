#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "model/ops/tensor.h"

namespace qgrpo {

// NF4 with double quantization, byte for byte what bitsandbytes stores (Dettmers et al., "QLoRA",
// 2023; bitsandbytes' quantize_4bit with blocksize 64, compress_statistics=True).
//
// The row-major flattened matrix is cut into blocks of 64; the last may be shorter, and a block can
// cross rows. Of a block b:
//   absmax[b] = max |w|
//   x         = clamp(w * (1 / absmax[b]), -1, 1)          in a shorter last block w / absmax[b]
//   index     = number of midpoints between neighbouring codes that are < x
// So a tie goes to the lower code; a block of zeros has absmax 0 and index 7. Two indices a byte,
// the FIRST in the HIGH nibble. Second level, blocks of 256 of the absmax:
//   offset        = mean(absmax)
//   nested_absmax = max |absmax - offset|                  of the block of 256
//   q             = the nearest code of the signed dynamic map, scaled by nested_absmax, 8 bits
// A weight is, in float32,
//   absmax' = float(dynamic_map[q] * nested_absmax) + offset
//   w'      = nf4_code[index] * absmax'
inline constexpr int kNf4Block = 64;
inline constexpr int kNf4NestedBlock = 256;

inline constexpr std::array<float, 16> kNf4Code = {-1.0f,
                                                   -0.6961928009986877f,
                                                   -0.5250730514526367f,
                                                   -0.39491748809814453f,
                                                   -0.28444138169288635f,
                                                   -0.18477343022823334f,
                                                   -0.09105003625154495f,
                                                   0.0f,
                                                   0.07958029955625534f,
                                                   0.16093020141124725f,
                                                   0.24611230194568634f,
                                                   0.33791524171829224f,
                                                   0.44070982933044434f,
                                                   0.5626170039176941f,
                                                   0.7229568362236023f,
                                                   1.0f};

// bitsandbytes' 8-bit dynamic maps (create_dynamic_map), ascending, 256 values: a sign bit (signed
// only), a unary exponent and a linear fraction. Signed: second-level absmax and AdamW's first
// moment; unsigned: its second.
std::span<const float, 256> dynamic_map_signed();
std::span<const float, 256> dynamic_map_unsigned();

// Index of the nearest value of an ascending map of 256 (ties to the lower index).
int nearest_code(std::span<const float, 256> map, float value);
// The largest float whose nearest code is still `code`, below 255.
float code_boundary(std::span<const float, 256> map, std::size_t code);

struct Nf4Tensor {
  Shape shape;                       // (N, K)
  std::vector<std::uint8_t> packed;  // ceil(N * K / 2)
  std::vector<std::uint8_t> absmax;  // one a block of 64
  std::vector<float> nested_absmax;  // one per 256 of absmax
  float offset = 0.0f;

  std::int64_t blocks() const { return (shape.elements() + kNf4Block - 1) / kNf4Block; }
  // absmax' of block b, float32.
  float block_scale(std::int64_t b) const;
  int index(std::int64_t element) const {
    const int byte = packed[static_cast<std::size_t>(element / 2)];
    return element % 2 == 0 ? byte >> 4 : byte & 15;
  }
};

// The offset of the second level: the mean of absmax in float32, summed in the order of PyTorch's
// CPU kernel.
float nf4_offset(std::span<const float> absmax);

// Quantizes a float32 row-major matrix. Non-finite input throws Error.
Nf4Tensor nf4_quantize(std::span<const float> values, Shape shape);

// = all elements, float32, row-major.
void nf4_dequantize(std::span<float> out, const Nf4Tensor& tensor);

}  // namespace qgrpo
