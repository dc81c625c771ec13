#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "model/io/ggml_type.h"
#include "model/io/gguf_half.h"

// The block formats of GGUF tensors: a row is cut into blocks of ggml_block() values, each stored
// as its scale(s) and small whole numbers q. d, m: IEEE half scales.
//
//   Q4_0    32 values, 18 bytes: d; q in 0..15, value i in the low nibble of byte i, i + 16 in the
//           high one                                                        w = d (q - 8)
//   Q4_1    32 values, 20 bytes: d, m; nibbles as in Q4_0                   w = d q + m
//   Q5_0    32 values, 22 bytes: d; the 32 fifth bits; nibbles as in Q4_0   w = d (q - 16)
//   Q5_1    32 values, 24 bytes: d, m; then as Q5_0                         w = d q + m
//   Q8_0    32 values, 34 bytes: d; q in -128..127                          w = d q
//   Q2_K    256 values, 84 bytes: sixteen pairs of 4-bit scales s, t for 16 values each; two bits;
//           d, m                                                            w = d s q - m t
//   Q3_K    256 values, 110 bytes: third bits; two bits; sixteen 6-bit scales s for 16 values
//           each; d                                                         w = d (s - 32) (q - 4)
//   Q4_K    256 values, 144 bytes: d, m; eight pairs of 6-bit scales s, t for 32 values each;
//           nibbles                                                         w = d s q - m t
//   Q5_K    256 values, 176 bytes: the same, the fifth bits before the nibbles
//   Q6_K    256 values, 210 bytes: low nibbles, upper two bits, sixteen 8-bit scales s for 16 values
//           each, d                                                         w = d s (q - 32)
//   IQ4_NL  32 values, 18 bytes: d; nibbles as in Q4_0, of a table of 16    w = d table[q]
//   IQ4_XS  256 values, 136 bytes: d; eight 6-bit scales s for 32 values each; nibbles of the table
//                                                                           w = d (s - 32) table[q]
namespace qgrpo::io {

// out = the values, float32, each product and difference rounded as ggml's scalar code does (d s
// and m t first).
void ggml_dequantize(std::span<float> out, GgmlType type, const std::byte* from);

// Quantizes to F32, F16, BF16, Q8_0, Q4_0, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K, the bytes of ggml's reference
// code without an importance matrix:
//   Q8_0        d = max |w| / 127                               q = round(w / d), halves away from zero
//   Q4_0, Q5_0  d = (the value of largest magnitude) / -8 (-16)  q = min(15 (31), trunc(w / d + 8.5 (16.5)))
//   Q5_1        d = (max w - min w) / 31, m = min w              q = trunc((w - m) / d + 0.5)
//   Q4_K, Q5_K, Q6_K  by search: model/io/gguf_k_quants.h
// The division is a product with 1 / d in float32; d is stored rounded to half. Throws Error where
// a value is not finite, or a scale or an F16 value is beyond the range of half.
void ggml_quantize(std::span<std::byte> to, GgmlType type, std::span<const float> values);

}  // namespace qgrpo::io
