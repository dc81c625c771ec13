#pragma once

#include <cstddef>

// GGUF's K formats: 256 values a block, in groups that have scales of their own, which are small whole numbers too.
// The scales and numbers q are those of ggml's reference code without an importance matrix, to the bit. Each sum is one
// chain in float32, in order. round(x) is to the nearest whole number, ties to even.
//
//   Q4_K, Q5_K  Groups of 32, w ~ s q - t with q in 0..15 (31) and t >= 0. The importance of a value is
//               a = |w| + sqrt(mean w^2) of the group. Starting from s = (max - min) / 15, min = min(0, least w),
//               other roundings are tried: q = round((w - min) (15 + r) / (max - min)), r from -1 (Q5_K: -0.5) in steps of
//               0.1, 21 (16) of them; s and t of each are the least squares of sum a (s q - t - w)^2 with t >= 0, and the
//               one of least sum wins. Then d = max s / 63, m = max t / 63 in half precision, s and t become
//               round(s / d), round(t / m) in six bits, and q = round((w + m t) / (d s)).
//   Q6_K        Groups of 16, w ~ s (q - 32) with q in 0..63. The importance of a value is w^2. Of the roundings
//               q = round(-w (32 + r / 10) / extreme), r in -9..9, extreme the value of largest magnitude, that of
//               the largest (sum a w q)^2 / sum a q^2 wins, and s is its least squares. Then d = extreme s / -128 in half
//               precision, s = round(s / d) in eight bits, q = round(w / (d s)).
namespace qgrpo::io {

// One block of 256 finite values: 144, 176 and 210 bytes (model/io/gguf_quants.h). Throws Error where d or m is beyond
// half precision.
void quantize_q4_k(std::byte* to, const float* w);
void quantize_q5_k(std::byte* to, const float* w);
void quantize_q6_k(std::byte* to, const float* w);

}  // namespace qgrpo::io
