#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "model/io/ggml_type.h"

// The block formats of GGUF tensors: a row is cut into blocks of ggml_block() values, each stored
// as its scale(s) and small whole numbers q. d, m: IEEE half scales.
//
//   Q4_0  32 values, 18 bytes: d; q in 0..15, value i in the low nibble of byte i, i + 16 in the
//         high one                                                          w = d (q - 8)
//   Q5_0  32 values, 22 bytes: d; the 32 fifth bits; nibbles as in Q4_0     w = d (q - 16)
//   Q8_0  32 values, 34 bytes: d; q in -128..127                            w = d q
//   Q4_K  256 values, 144 bytes: d, m; eight pairs of 6-bit scales s, t for 32 values each;
//         nibbles                                                           w = d s q - m t
//   Q6_K  256 values, 210 bytes: low nibbles, upper two bits, sixteen 8-bit scales s for 16 values
//         each, d                                                           w = d s (q - 32)
namespace qgrpo::io {

// out = the values, float32, each product and difference rounded as ggml's scalar code does (d s
// and m t first).
void ggml_dequantize(std::span<float> out, GgmlType type, const std::byte* from);

// Quantizes to F32, F16, Q8_0 or Q4_0, the bytes of ggml's reference code:
//   Q8_0  d = max |w| / 127                            q = round(w / d), halves away from zero
//   Q4_0  d = (the value of largest magnitude) / -8    q = min(15, trunc(w / d + 8.5))
// The division is a product with 1 / d in float32; d is stored rounded to half. Throws Error where
// a value is not finite, or a scale or an F16 value is beyond the range of half.
void ggml_quantize(std::span<std::byte> to, GgmlType type, std::span<const float> values);

// float32 -> IEEE half, to nearest, ties to even; what is too large becomes infinite.
std::uint16_t f32_to_f16(float value);

}  // namespace qgrpo::io
