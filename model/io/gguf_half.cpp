#include "model/io/gguf_half.h"

#include <cstring>

#include "model/ops/error.h"

namespace qgrpo::io {

void put_scale(std::byte* to, float d) {
  const std::uint16_t bits = f32_to_f16(d);
  require((bits & 0x7c00u) != 0x7c00u,
          "the scale {} of a block is beyond the range of half precision", d);
  std::memcpy(to, &bits, 2);
}

std::uint16_t f32_to_f16(float value) {
  const auto u = __builtin_bit_cast(std::uint32_t, value);
  const auto sign = static_cast<std::uint16_t>(u >> 16 & 0x8000u);
  const std::uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {  // subnormal in half: a multiple of 2^-24
    // Adding 0.5 aligns the value to 2^-24, so that the sum's rounding is the one wanted.
    const float aligned = __builtin_bit_cast(float, magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign |
                                      (__builtin_bit_cast(std::uint32_t, aligned) - 0x3f000000u));
  }
  const std::uint32_t odd = magnitude >> 13 & 1u;
  return static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}

}  // namespace qgrpo::io
