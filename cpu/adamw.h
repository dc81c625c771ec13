#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "model/ops/adamw.h"

// AdamW on the CPU, and the gradient's norm. Every function works on a range of a tensor, so that
// threads can share one; the results do not depend on how it was cut, as long as the cuts are where
// the declaration says. Arithmetic is float32, one rounding an operation, and the same bits with
// and without AVX2. Sizes that do not fit throw Error.
namespace qgrpo::cpu {

// Which loops run. `portable` is plain C++, for tests and machines without AVX2.
enum class AdamwPath { fastest, portable };

// One step as in AdamWParams (model/ops/adamw.h), torch.optim.AdamW within one unit in the last
// place. param, m, v: (n), updated in place; grad: (n), read. Any cut.
void adamw_32bit(std::span<float> param, std::span<float> m, std::span<float> v,
                 std::span<const float> grad, const AdamWParams& params,
                 AdamwPath path = AdamwPath::fastest);

// Block-wise 8-bit moments (Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization"):
// moment = map[code] * absmax of its block of 256, m with the signed, v with the unsigned dynamic
// map. All zero before the first step.
struct Adam8bitState {
  std::span<std::uint8_t> m;  // (n) codes
  std::span<std::uint8_t> v;  // (n) codes
  std::span<float> absmax_m;  // (ceil(n / 256))
  std::span<float> absmax_v;  // (ceil(n / 256))
};

// One step with 8-bit moments, as bitsandbytes with nearest-code quantization: the update uses the
// moments before they are quantized again; x = moment / absmax, the nearest code, a tie to the
// lower. A block whose moments are all zero keeps the code of 0. Cuts at multiples of 256.
void adamw_8bit(std::span<float> param, const Adam8bitState& state, std::span<const float> grad,
                const AdamWParams& params, AdamwPath path = AdamwPath::fastest);

// The code of a signed or unsigned dynamic map nearest to each x in [-1, 1] (ties to the lower),
// what adamw_8bit stores: equal to nearest_code of model/ops/nf4.h, by table instead of a search.
void quantize_dynamic_map(std::span<std::uint8_t> codes, std::span<const float> x, bool is_signed,
                          AdamwPath path = AdamwPath::fastest);

// Sum of squares in double. chunks[i] = that of elements [4096 i, 4096 (i + 1)), in eight lanes
// that are added as a tree. Cuts at multiples of 4096; the total is the sum of all chunks in order.
inline constexpr std::size_t kSquareChunk = 4096;
void sum_of_squares_chunks(std::span<double> chunks, std::span<const float> x,
                           AdamwPath path = AdamwPath::fastest);

// The total of the above.
double sum_of_squares(std::span<const float> x, AdamwPath path = AdamwPath::fastest);

}  // namespace qgrpo::cpu
