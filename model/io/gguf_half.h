#pragma once

#include <cstddef>
#include <cstdint>

// The half-precision numbers of GGUF's formats.
namespace qgrpo::io {

// float32 -> IEEE half, to nearest, ties to even; what is too large becomes infinite.
std::uint16_t f32_to_f16(float value);

// The 16 bits of a block's scale. Throws Error where it is beyond half precision.
void put_scale(std::byte* to, float d);

}  // namespace qgrpo::io
